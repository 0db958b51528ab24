"""Other resolutions, lengths and vocabularies than the checkpoint's."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from multimodal import config
from multimodal.config import ImageTower, Lora, TextTower
from multimodal.data.tokenizers import load_tokenizer
from multimodal.errors import UserError
from multimodal.finetune import fit, lora, start
from tests.finetune.test_start import SMALL, begin, save
from tests.toy import build, replace

POSITIONS, TOKENS = "towers/image/positions/position", "towers/text/tokens/table"
COCA = config.CoCa(ImageTower(), TextTower(), config.Transformer())


def tables(sizes: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=sizes).astype("f4")


@pytest.mark.parametrize(("old", "new"), [(4, 7), (7, 4), (3, 3)])
def test_positions_of_pictures_are_resampled_as_pillow_resizes(old, new):
    """Antialiased bilinear, channel by channel; the class token's is left alone."""
    stored = tables((1 + old * old, 5))
    tower = ImageTower(class_token=True)
    found = fit.positions(POSITIONS, tower, tower, (1 + new * new, 5), stored.shape)
    for channel in range(5):
        grid = Image.fromarray(stored[1:, channel].reshape(old, old))
        wanted = np.asarray(grid.resize((new, new), Image.Resampling.BILINEAR))
        made = np.asarray(found.change(stored, None))[:, channel]
        np.testing.assert_allclose(made[1:].reshape(new, new), wanted, atol=1e-5)
        assert made[0] == stored[0, channel]
    assert f"{old} x {old} to {new} x {new}" in found.told


def test_positions_of_texts_are_resampled_over_their_length():
    stored, path = tables((8, 3)), "towers/text/positions/position"
    found = fit.positions(path, TextTower(), TextTower(), (20, 3), stored.shape)
    at = (np.arange(20) + 0.5) * 8 / 20 - 0.5
    wanted = np.stack([np.interp(at, np.arange(8), column) for column in stored.T], 1)
    np.testing.assert_allclose(found.change(stored, None), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "now", "then", "shape", "there"),
    [
        ("towers/image/patches/linear/kernel", ImageTower(), ImageTower(), (25, 4), (16, 4)),
        (POSITIONS, ImageTower(), ImageTower(), (25, 8), (16, 4)),
        (POSITIONS, ImageTower(class_token=True), ImageTower(), (26, 4), (16, 4)),
        (POSITIONS, ImageTower(), TextTower(), (25, 4), (16, 4)),
        ("positions/position", config.Uniter(config.Transformer()), None, (25, 4), (16, 4)),
        ("positions/position", COCA, COCA, (25, 4), (16, 4)),
    ],
)
def test_what_is_no_table_of_positions_is_left(path, now, then, shape, there):
    assert fit.positions(path, now, then, shape, there) is None


def vocabulary(folder, words: list[str], **names):
    """A tokenizer of whole words, in this order."""
    tokens = {word: i for i, word in enumerate(words)}
    added = [
        {
            "id": i,
            "content": w,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for w, i in tokens.items()
        if w[0] in "<["
    ]
    settings = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
        "decoder": None, "model": {"type": "WordLevel", "vocab": tokens, "unk_token": words[1]},
    }  # fmt: skip
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    return load_tokenizer(str(folder))


OLD = ["<pad>", "<unk>", "<s>", "</s>", "cat", "dog", "a", "photo"]
NEW = ["[PAD]", "<unk>", "dog", "[CLS]", "[SEP]", "a", "zebra", "cat", "yak"]


@pytest.fixture
def tokenizers(tmp_path):
    return vocabulary(tmp_path / "old", OLD), vocabulary(tmp_path / "new", NEW)


def test_rows_go_where_their_tokens_are(tokenizers):
    old, new = tokenizers
    wanted = [0, 1, 5, 2, 3, 6, -1, 4, -1]  # special tokens by what they are for
    assert fit.token_rows(new, old).tolist() == wanted
    stored, begins = tables((8, 3)), tables((9, 3), 1)
    found = fit.vocabulary(TOKENS, SMALL.model, new, old, (9, 3), (8, 3))
    made = np.asarray(found.change(stored, begins))
    for row, source in enumerate(wanted):
        assert (made[row] == (begins[row] if source < 0 else stored[source])).all()
    assert "7 of 9 tokens kept, 2 new" in found.told


def test_columns_of_a_head_go_with_them(tokenizers):
    old, new = tokenizers
    found = fit.vocabulary("head/kernel", COCA, new, old, (3, 9), (3, 8))
    made = np.asarray(found.change(tables((3, 8)), tables((3, 9), 1)))
    assert (made[:, 7] == tables((3, 8))[:, 4]).all() and (
        made[:, 6] == tables((3, 9), 1)[:, 6]
    ).all()
    classes = config.Classifier({"image": ImageTower()}, 9)
    assert fit.vocabulary("head/kernel", classes, new, old, (3, 9), (3, 8)) is None


def test_a_table_padded_to_another_size_and_one_that_is_the_same(tokenizers):
    old, _ = tokenizers
    found = fit.vocabulary(TOKENS, SMALL.model, old, old, (16, 3), (12, 3))
    made = np.asarray(found.change(tables((12, 3)), tables((16, 3), 1)))
    assert (made[:12] == tables((12, 3))).all() and (made[12:] == tables((16, 3), 1)[12:]).all()
    assert fit.vocabulary(TOKENS, SMALL.model, old, old, (12, 3), (12, 3)) is None


@pytest.mark.parametrize("name", ["bytes", "file"])
def test_every_tokenizer_lists_its_tokens(name, tokenizers):
    tokenizer = load_tokenizer("bytes") if name == "bytes" else tokenizers[0]
    tokens = tokenizer.tokens()
    assert len(tokens) == tokenizer.vocab_size == len(set(tokens))
    if name == "file":
        assert tokens == OLD


def test_from_an_adapted_run_to_larger_pictures_and_another_vocabulary(
    tokenizers, tmp_path, monkeypatch
):
    """Pictures are embedded as the smaller model, merged, does, whose positions are resized alike;
    each token has the vector that it had."""
    names = {"vocab_size": 8, "end_id": 3, "mask_padding": True}
    adapted = Lora(("towers/.*/kernel",), rank=2, alpha=6.0)
    before = build(
        replace(
            SMALL,
            lora=adapted,
            preprocessing__tokenizer=str(tmp_path / "old"),
            **{f"model__towers__text__{name}": value for name, value in names.items()},
        )
    )
    rng, shapes = np.random.default_rng(0), before.model.shapes()
    params = {path: rng.normal(0, 0.3, x.shape).astype("f4") for path, x in shapes.items()}
    file = dict([before.tokenizer.file])
    where = save(tmp_path / "run", before, {"params": params}, files=file)
    names |= {"vocab_size": 12, "end_id": 4}
    run = build(
        replace(
            SMALL,
            ema=0.5,
            preprocessing__tokenizer=str(tmp_path / "new"),
            preprocessing__image_size=40,
            model__towers__image__image_size=40,
            **{f"model__towers__text__{name}": value for name, value in names.items()},
        ),
        devices=4,
        data=2,
        fsdp=2,
    )
    accept = ("image_size", "tokenizer", "start_id", "end_id")
    with pytest.raises(UserError, match=r"accept=\['tokenizer', 'start_id', 'end_id'\]"):
        begin((run, None), where, accept=accept[:1])
    said = []
    monkeypatch.setattr(start.log, "info", lambda text, *values: said.append(text % values))
    state = begin((run, None), where, accept=accept)
    assert f"{POSITIONS}: resampled from 4 x 4 to 5 x 5 patches" in said
    assert f"{TOKENS}: 7 of 12 tokens kept, 5 new" in said and "not used" not in said[0]
    new, merged = jax.device_get(state.params), lora.merge(params, adapted)
    for path, x in merged.items():
        if path not in (TOKENS, POSITIONS):
            np.testing.assert_allclose(new[path], x, atol=1e-6, err_msg=path)
        assert (np.asarray(state.ema[path]) == new[path]).all(), path
        assert state.params[path].sharding == run.shardings.params[path]
    assert (new[TOKENS][7] == params[TOKENS][4]).all()  # cat
    begins = new[TOKENS][[6, 8, 9, 10, 11]]  # zebra, yak and what is beyond the vocabulary
    assert begins.all() and not np.isin(begins, params[TOKENS]).any()
    pictures = rng.integers(0, 256, (2, 40, 40, 3), np.uint8)

    def embed(model, params):
        model = model._replace(plain=dict)
        return jax.jit(lambda x: model.bind(x)({"image": pictures})["image"])(params)

    ours, theirs = embed(run.model, new), embed(before.model, merged)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    jax.block_until_ready(jax.jit(lambda s: s, donate_argnums=0)(state))
