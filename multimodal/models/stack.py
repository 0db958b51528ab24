"""A stack of equal blocks: one block's graph, parameters with a leading layers axis, one scan."""

import functools
import operator

import jax
import jax.numpy as jnp
from flax import nnx

from multimodal.config import Transformer
from multimodal.errors import UserError
from multimodal.models.attention import Cache
from multimodal.models.block import Block
from multimodal.models.rngs import Rngs
from multimodal.parallel.gather import kept, whole

POLICIES = {
    "everything": None,
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "inputs": jax.checkpoint_policies.nothing_saveable,
}
CAPTURES = ("hidden", "attention", "cross_attention")


def _prepend_layers(state: nnx.State) -> nnx.State:
    for _, leaf in nnx.to_flat_state(state):
        leaf.set_metadata("axes", ("layers", *leaf.get_metadata("axes")))
    return state


def _unstacked(tree: dict, depth: int) -> list[dict]:
    """Each layer's part. The gradient of one split is one concatenation; that of a slice a layer is
    the sum of so many arrays of the size of all layers."""
    leaves, structure = jax.tree.flatten(tree)
    layers = zip(*[jax.lax.split(x, [1] * depth) for x in leaves], strict=True)
    return [structure.unflatten(x.squeeze(0) for x in layer) for layer in layers]


class Stack(nnx.Module):
    """`settings.depth` blocks applied one after the other; `block` is called as `Block` is. Without
    any, a tower pools its input: a bag of words."""

    def __init__(self, settings: Transformer, *, rngs: Rngs, block: type = Block):
        self.settings = settings
        if not settings.depth:
            return
        make = lambda key: block(settings, rngs=Rngs(key))  # noqa: E731
        keys = jax.random.split(rngs.params(), settings.depth)
        graph, _ = nnx.split(nnx.eval_shape(make, keys[0]))
        stacked = jax.vmap(lambda key: nnx.state(make(key)))(keys)
        self.blocks = nnx.merge(graph, _prepend_layers(stacked))

    def __call__(
        self,
        x: jax.Array,  # [batch, length, embed]
        *,
        mask: jax.Array | None = None,  # broadcasts to [batch, heads, length, keys]
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        cache: Cache | None = None,  # leaves with a leading layers axis
        capture: tuple[str, ...] = (),
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, dict]:
        """The last hidden state and what was captured, each with a leading layers axis.

        `capture` names any of hidden (depth + 1 entries, the input first), attention,
        cross_attention; the updated cache is there whenever one was given.
        """
        s = self.settings
        if not s.depth:
            return x, {"hidden": x[None]} if "hidden" in capture else {}
        graph, params = nnx.split(self.blocks)
        rates = jnp.linspace(0.0, s.drop_path, s.depth)
        keys = None if key is None else jax.random.split(key, s.depth)

        def body(x, layer):
            params, rate, key, cache = layer
            block = nnx.merge(graph, whole(params))
            y, extras = block(
                x,
                mask=mask,
                context=context,
                context_mask=context_mask,
                cache=cache,
                drop_path_rate=rate,
                key=key,
            )
            captured = {name: extras[name] for name in capture if name in extras}
            if none := [name for name, x in captured.items() if x is None]:
                raise UserError(
                    f"{', '.join(none)}: only XLA forms the weights of attention; set the stack's "
                    "attention='xla'"
                )
            if "hidden" in capture:
                captured["hidden"] = y
            if cache is not None:
                captured["cache"] = extras["cache"]
            return y, captured

        stacked = nnx.to_pure_dict(params)
        policy = kept(POLICIES[s.keep], stacked)
        if policy is not None:
            body = jax.checkpoint(body, policy=policy, prevent_cse=not s.scan)
        first = x
        if s.scan:
            x, captured = jax.lax.scan(body, x, (stacked, rates, keys, cache))
        else:
            steps = []
            for i, params in enumerate(_unstacked(stacked, s.depth)):
                others = jax.tree.map(operator.itemgetter(i), (rates, keys, cache))
                x, extras = body(x, (params, *others))
                steps.append(extras)
            captured = jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)
        if "hidden" in capture:
            captured["hidden"] = jnp.concatenate([first[None], captured["hidden"]])
        return x, captured


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def empty_cache(settings: Transformer, batch: int, length: int, dtype: str) -> Cache:
    """A cache for `length` positions of every layer of a stack; zeros, nothing used."""
    head_dim = settings.width // settings.heads
    shape = (settings.depth, batch, length, settings.heads, head_dim)
    used = jnp.zeros((settings.depth,), jnp.int32)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), used)
