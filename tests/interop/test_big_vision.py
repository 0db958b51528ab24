"""big_vision's .npz in and out, against the same model written in flax.linen.

Its parameters have the names that linen gives to modules, so that the oracle's own are the file's.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.interop import export_weights, import_weights
from multimodal.interop.big_vision import write_big_vision
from multimodal.interop.source import open_source
from multimodal.models.build import build
from multimodal.schema import to_dict

WIDTH, HEADS, DEPTH, PATCH, SIDE, LENGTH, WORDS = 24, 3, 2, 4, 12, 6, 19


class MlpBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = nn.gelu(nn.Dense(40)(x))
        return nn.Dense(x.shape[-1])(hidden)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=HEADS)(y, y)
        return x + MlpBlock(name="MlpBlock_0")(nn.LayerNorm()(x))


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        for layer in range(DEPTH):
            x = Block(name=f"encoderblock_{layer}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class MAPHead(nn.Module):
    @nn.compact
    def __call__(self, x):
        probe = self.param("probe", nn.initializers.normal(0.5), (1, 1, WIDTH))
        probe = jnp.tile(probe, (x.shape[0], 1, 1))
        x = nn.MultiHeadDotProductAttention(num_heads=HEADS)(probe, x)
        return (x + MlpBlock(name="MlpBlock_0")(nn.LayerNorm()(x)))[:, 0]


class Image(nn.Module):
    classes: int = 0

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTH, (PATCH, PATCH), (PATCH, PATCH), "VALID", name="embedding")(x)
        x = x.reshape(len(x), -1, WIDTH)
        x = x + self.param("pos_embedding", nn.initializers.normal(0.5), (1, *x.shape[1:]))
        x = Encoder(name="Transformer")(x)
        x = x.mean(axis=1) if self.classes else MAPHead(name="MAPHead_0")(x)
        return nn.Dense(self.classes, name="head")(x) if self.classes else x


class Text(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(WORDS, WIDTH, name="Embed_0")(ids)
        x = x + self.param("pos_embedding", nn.initializers.normal(0.5), (1, LENGTH, WIDTH))
        return nn.Dense(WIDTH, name="head")(Encoder(name="Encoder_0")(x)[:, -1])


RNG = np.random.default_rng(0)
PICTURES = RNG.normal(size=(3, SIDE, SIDE, 3)).astype(np.float32)
IDS = RNG.integers(0, WORDS, (3, LENGTH)).astype(np.int32)


def flat(tree, prefix="params"):
    """Parameters by the names of the file, each of them random."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    names = (jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves)
    return {
        f"{prefix}/{name}": np.asarray(leaf + 0.3 * RNG.normal(size=leaf.shape), np.float32)
        for name, (_, leaf) in zip(names, leaves, strict=True)
    }


def nested(arrays, prefix):
    tree = {}
    for name, x in arrays.items():
        *parents, last = name.removeprefix(f"{prefix}/").split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = x
    return {"params": tree}


@pytest.fixture(scope="module")
def siglip():
    """The arrays of a file, and what the oracle makes of the inputs, of unit length."""
    with jax.default_matmul_precision("highest"):
        arrays, outputs = {}, {}
        for name, module, x in (("img", Image(), PICTURES), ("txt", Text(), IDS)):
            prefix = f"params/{name}"
            own = flat(module.init(jax.random.key(0), x)["params"], prefix)
            outputs[name] = np.asarray(module.apply(nested(own, prefix), x))
            arrays |= own
    arrays |= {"params/t": np.array([2.0], np.float32), "params/b": np.array([-9.0], np.float32)}
    units = [y / np.linalg.norm(y, axis=-1, keepdims=True) for y in outputs.values()]
    return arrays, dict(zip(("image", "text"), units, strict=True))


def opened(path, arrays):
    np.savez(path, **arrays)
    found = open_source(path)
    model = build(found.model, found.preprocessing, "float32")
    return found, model, import_weights(found.layout, found.tensors, model)


def test_two_towers(tmp_path, siglip):
    arrays, wanted = siglip
    found, model, params = opened(tmp_path / "siglip.npz", arrays)
    assert found.layout == "big_vision_siglip" and found.preprocessing.resize == "squash"
    with jax.default_matmul_precision("highest"):
        y = jax.jit(lambda p: model.bind(p)({"image": PICTURES, "text": IDS}))(params)
    for name, theirs in wanted.items():
        np.testing.assert_allclose(y[name], theirs, rtol=0, atol=1e-5, err_msg=name)
    temperature = y["temperature"]["image-text"]
    assert (float(temperature["log_scale"]), float(temperature["bias"])) == (2.0, -9.0)


def test_out_again_is_the_file(tmp_path, siglip):
    arrays, _ = siglip
    found, _, params = opened(tmp_path / "in.npz", arrays)
    tensors = export_weights(found.layout, params)
    write_big_vision(tmp_path / "out.npz", tensors, {"img/": HEADS, "txt/": HEADS})
    with np.load(tmp_path / "out.npz") as again:
        assert set(again) == set(arrays)
        for name, x in arrays.items():
            np.testing.assert_array_equal(again[name], x, err_msg=name)
            assert again[name].shape == x.shape


def test_a_stack_in_one_piece(tmp_path, siglip):
    arrays, _ = siglip
    _, _, params = opened(tmp_path / "apart.npz", arrays)
    scanned = {}
    for name in sorted(arrays):
        if "encoderblock_0/" in name:
            layers = [arrays[name.replace("block_0/", f"block_{i}/")] for i in range(DEPTH)]
            scanned[name.replace("encoderblock_0/", "encoderblock/")] = np.stack(layers)
        elif "encoderblock" not in name:
            scanned[name] = arrays[name]
    _, _, again = opened(tmp_path / "scanned.npz", scanned)
    assert all(np.array_equal(again[path], params[path]) for path in params)


def test_a_classifier_of_mean_tokens(tmp_path):
    module = Image(classes=7)
    arrays = flat(module.init(jax.random.key(0), PICTURES)["params"])
    found, model, params = opened(tmp_path / "vit.npz", arrays)
    assert found.model.towers["image"].pooler == "mean", to_dict(found.model)
    with jax.default_matmul_precision("highest"):
        wanted = module.apply(nested(arrays, "params"), PICTURES)
        y = jax.jit(lambda p: model.bind(p).towers["image"](PICTURES)["embedding"])(params)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5)


def test_bfloat16_as_numpy_writes_it(tmp_path, siglip):
    arrays, _ = siglip
    _, _, params = opened(tmp_path / "a.npz", arrays)
    halves = {name: x.astype(jnp.bfloat16) for name, x in arrays.items()}
    _, _, again = opened(tmp_path / "b.npz", halves)
    for path, x in params.items():
        np.testing.assert_array_equal(again[path], x.astype(jnp.bfloat16).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params/img/cls": np.zeros((1, 1, WIDTH))}, "cls: a class token"),
        ({"params/img/extra": np.zeros(3, np.float32)}, "img/extra has no place"),
        ({"params/t": None}, "t is missing"),
        ({"params/txt/head/bias": None}, "txt/head/bias is missing"),
        ({"params/img/head/kernel": np.array([{}])}, "img/head/kernel is a pickle"),
        ({"params/img/embedding/kernel": None}, "there is no embedding/kernel"),
        ({"params/t": np.zeros((2, 2), np.float32)}, r"t has shape \(2, 2\), but"),
        ({"params/b": np.asfortranarray(np.zeros((2, 2)))}, "Fortran"),
    ],
)
def test_what_is_no_siglip_is_named(tmp_path, siglip, change, said):
    arrays = {name: x for name, x in (siglip[0] | change).items() if x is not None}
    with pytest.raises(UserError, match=said):
        opened(tmp_path / "a.npz", arrays)


def test_compressed_and_torn_files(tmp_path, siglip):
    np.savez_compressed(tmp_path / "c.npz", **siglip[0])
    with pytest.raises(UserError, match="is compressed"):
        open_source(tmp_path / "c.npz")
    np.savez(tmp_path / "a.npz", **siglip[0])
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "t.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole .npz"):
        open_source(tmp_path / "t.npz")
