"""Greedy decoding with a key-value cache."""

import jax
import jax.numpy as jnp

from multimodal.errors import UserError
from multimodal.models.prefix_lm import PrefixLM
from multimodal.models.stack import empty_cache


def greedy(
    model: PrefixLM,
    images: jax.Array,  # [batch, height, width, 3]
    prompt: jax.Array,  # [batch, prompt_length] token ids
    *,
    steps: int,
    end_id: int,
    pad_id: int = 0,
) -> jax.Array:
    """The most probable next token, `steps` times: ids [batch, steps]; padding after `end_id`.

    Raises UserError where prompt and steps exceed the text length that the model has learnt: later
    positions would all be taken for the last.
    """
    batch, length = prompt.shape
    if length + steps > model.settings.length:
        raise UserError(
            f"a prompt of {length} tokens and {steps} more exceed the text length "
            f"{model.settings.length} of the model; decode fewer"
        )
    total = model.patches + length + steps
    cache = empty_cache(model.settings.decoder, batch, total, model.dtype)
    logits, cache = model.start(images, prompt, cache)

    def body(carry, _):
        logits, cache, ended = carry
        token = jnp.where(ended, pad_id, logits.argmax(-1)).astype(prompt.dtype)
        ended |= token == end_id
        logits, cache = model.step(token, cache)
        return (logits, cache, ended), token

    carry = (logits, cache, jnp.zeros((batch,), bool))
    _, tokens = jax.lax.scan(body, carry, None, length=steps)
    return tokens.T
