"""BERT on its own, over texts alone, and as the text tower of a dual encoder."""

import dataclasses

import jax
import numpy as np
import pytest

from multimodal.checks import check
from multimodal.config import Bert, DualEncoder, MaskedLanguage, Matching, TextTower, Transformer
from multimodal.errors import UserError
from multimodal.models.build import build
from multimodal.preprocessing import Preprocessing
from tests.toy import build as build_run
from tests.toy import replace, toy_config

STACK = Transformer(
    width=12, depth=2, heads=3, mlp=16, norm_position="post", init="bert", activation="gelu"
)
TEXT = TextTower(
    vocab_size=260,
    length=8,
    pooler="none",
    mask_padding=True,
    token_types=2,
    embedding_norm=True,
    final_norm=False,
    projection="none",
    transformer=STACK,
)
PREPROCESSING = Preprocessing(length=8)
IDS = np.array([[1, 5, 2, 9, 2, 0, 0, 0], [1, 19, 3, 7, 4, 2, 8, 2]])


@pytest.fixture(scope="module")
def run():
    model = build(Bert(TEXT), PREPROCESSING, "float32")
    params = {k: 20 * x for k, x in jax.jit(model.init)(jax.random.key(0)).items()}
    return jax.jit(lambda ids, types: model.bind(params)({"text": ids, "text_types": types}))


def test_segments_and_words_are_told_apart_and_padding_is_not_seen(run):
    types = np.zeros_like(IDS)
    before = run(IDS, types)
    assert before["word_logits"].shape == (2, 8, 260) and before["match_logits"].shape == (2, 2)
    types[:, 3:] = 1
    for name, x in run(IDS, types).items():
        assert (np.abs(x - before[name]).max(-1) > 1e-4).all(), name
    types[:, 3:] = 0
    types[0, 5:] = 1  # of padding
    after = run(IDS, types)
    np.testing.assert_allclose(after["match_logits"], before["match_logits"], atol=1e-5)
    np.testing.assert_allclose(after["word_logits"][0, :5], before["word_logits"][0, :5], atol=1e-4)


def settings():
    values = replace(
        toy_config("uniter"),
        preprocessing=PREPROCESSING,
        model=Bert(TEXT),
        tasks__words__data__fields={"text": "captions"},
    )
    return dataclasses.replace(values, tasks={"words": values.tasks["words"]})


def test_texts_are_all_that_it_reads(tmp_path):
    values = dataclasses.replace(settings(), data_dir=str(tmp_path))
    assert isinstance(values.tasks["words"].objectives["masked_language"], MaskedLanguage)
    check(values)
    run = build_run(values)
    assert set(run.abstract_batch()) == {"text", "valid"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model__text__pooler": "first"},
            "model.text.pooler='first': this model reads the text's",
        ),
        ({"model__text__transformer__causal": True}, "bert says itself who sees whom"),
        ({"tasks__words__objectives": {"pairs": Matching()}}, "sees no image to match"),
        ({"tasks__words__data__fields": {"image": "image"}}, "training reads 'text'"),
    ],
)
def test_refused(changes, said):
    with pytest.raises(UserError, match=said):
        check(replace(settings(), **changes))


def test_its_weights_fit_a_text_tower():
    tower = dataclasses.replace(TEXT, pooler="first", projection="linear")
    lit = build(DualEncoder({"text": tower}, embed=6, pairs=()), PREPROCESSING, "float32").shapes()
    bert = build(Bert(TEXT), PREPROCESSING, "float32").shapes()
    own = {f"towers/{k}": v.shape for k, v in bert.items() if k.startswith("text/")}
    assert own == {k: v.shape for k, v in lit.items() if k != "towers/text/projection/kernel"}
