"""Captioning and masked words against NumPy in float64, and the statistics of masking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import config
from multimodal.errors import UserError
from multimodal.objectives.objective import Vocabulary
from multimodal.objectives.tokens import Captioning, DecoderCaptioning, MaskedLanguage

PAD, MASK, SPECIAL = 0, 3, (0, 1, 2, 3)
VOCABULARY = Vocabulary(size=50, pad_id=PAD, mask_id=MASK, special=SPECIAL)
BATCH, LENGTH = 6, 9


def texts(seed=0, batch=BATCH, length=LENGTH):
    """Start, ordinary tokens, end, padding; lengths differ."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, VOCABULARY.size, (batch, length))
    ends = rng.integers(2, length, batch)
    ids[:, 0] = 1
    ids[np.arange(batch), ends] = 2
    ids[np.arange(length) > ends[:, None]] = PAD
    return ids.astype(np.int32)


def batch_of(**entries):
    batch = {"text": texts(), "valid": np.array([True, True, False, True, True, True])}
    return jax.tree.map(jnp.asarray, batch | entries)


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def logits_of(seed=1, length=LENGTH):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 4, (BATCH, length, VOCABULARY.size)).astype(np.float32)


def test_captioning_is_the_mean_over_the_tokens_that_follow():
    objective = Captioning(config.Captioning(), VOCABULARY)
    batch, logits = batch_of(), logits_of()
    loss, figures = objective.loss({"caption_logits": jnp.asarray(logits)}, batch, batch)
    losses, hits = [], []
    logs = log_softmax(logits)
    for row, valid in enumerate(np.asarray(batch["valid"])):
        for place in range(LENGTH - 1):
            following = int(batch["text"][row, place + 1])
            if valid and following != PAD:
                losses.append(-logs[row, place, following])
                hits.append(logits[row, place].argmax() == following)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(figures["accuracy"], np.mean(hits), rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_decoder_captioning_is_the_mean_over_all_tokens(chunk):
    rng = np.random.default_rng(2)
    objective = DecoderCaptioning(config.DecoderCaptioning(chunk=chunk), VOCABULARY)
    batch = batch_of()
    features = rng.normal(size=(BATCH, LENGTH, 5)).astype(np.float32)
    table = rng.normal(size=(VOCABULARY.size, 5)).astype(np.float32)
    outputs = {"caption_features": jnp.asarray(features), "weights": {"caption": table}}
    loss, figures = objective.loss(outputs, batch, batch)
    logits = features.astype(np.float64) @ table.T.astype(np.float64)
    real = (np.asarray(batch["text"]) != PAD) & np.asarray(batch["valid"])[:, None]
    rows, places = np.nonzero(real)
    wanted = np.asarray(batch["text"])[rows, places]
    np.testing.assert_allclose(loss, -log_softmax(logits)[rows, places, wanted].mean(), rtol=1e-6)
    hits = logits[rows, places].argmax(-1) == wanted
    np.testing.assert_allclose(figures["accuracy"], hits.mean(), rtol=1e-6)


def test_a_share_of_captions_is_predicted_in_parallel():
    objective = DecoderCaptioning(config.DecoderCaptioning(parallel=0.3), VOCABULARY)
    batch = {"text": jnp.zeros((20_000, 3), int), "valid": jnp.ones(20_000, bool)}
    drawn = objective.prepare(batch, jax.random.key(0))
    assert abs(drawn["parallel"].mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 20_000)
    again = objective.prepare(batch, jax.random.key(1))
    assert (drawn["parallel"] != again["parallel"]).any()
    np.testing.assert_array_equal(drawn["text"], batch["text"])


def test_masked_words_are_the_mean_over_what_is_masked():
    objective = MaskedLanguage(config.MaskedLanguage(rate=0.5), VOCABULARY)
    batch = objective.prepare(batch_of(), jax.random.key(0))
    logits = logits_of()
    loss, figures = objective.loss({"word_logits": jnp.asarray(logits)}, batch, batch)
    labels = np.asarray(batch["masked_labels"])
    rows, places = np.nonzero((labels != PAD) & np.asarray(batch["valid"])[:, None])
    assert len(rows) > 5
    wanted = labels[rows, places]
    np.testing.assert_allclose(loss, -log_softmax(logits)[rows, places, wanted].mean(), rtol=1e-6)
    hits = logits[rows, places].argmax(-1) == wanted
    np.testing.assert_allclose(figures["accuracy"], hits.mean(), rtol=1e-6)


OBJECTIVES = {
    "caption_logits": Captioning(config.Captioning(), VOCABULARY),
    "word_logits": MaskedLanguage(config.MaskedLanguage(rate=0.5), VOCABULARY),
}


@pytest.mark.parametrize("reads", OBJECTIVES)
def test_microbatches_add_up(reads):
    objective = OBJECTIVES[reads]
    whole = objective.prepare(batch_of(), jax.random.key(1))
    logits = jnp.asarray(logits_of())
    want, want_figures = objective.loss({reads: logits}, whole, whole)
    total = accuracy = 0.0
    for part in (slice(0, 2), slice(2, 6)):
        micro = {name: x[part] for name, x in whole.items()}
        loss, figures = objective.loss({reads: logits[part]}, micro, whole)
        total, accuracy = total + loss, accuracy + figures["accuracy"]
    np.testing.assert_allclose(total, want, rtol=1e-6)
    np.testing.assert_allclose(accuracy, want_figures["accuracy"], rtol=1e-6)


@pytest.mark.parametrize("reads", OBJECTIVES)
def test_what_does_not_count_has_no_gradient(reads):
    """Padding, broken examples and words that are not masked."""
    objective = OBJECTIVES[reads]
    batch = objective.prepare(batch_of(), jax.random.key(1))
    loss = lambda logits: objective.loss({reads: logits}, batch, batch)[0]  # noqa: E731
    touched = np.abs(np.asarray(jax.grad(loss)(jnp.asarray(logits_of())))).max(-1) > 0
    labels = np.asarray(batch.get("masked_labels", np.roll(batch["text"], -1, axis=1)))
    counted = (labels != PAD) & np.asarray(batch["valid"])[:, None]
    if reads == "caption_logits":
        counted[:, -1] = False
    np.testing.assert_array_equal(touched, counted)


@pytest.mark.parametrize("reads", OBJECTIVES)
def test_nothing_valid_is_zero(reads):
    objective = OBJECTIVES[reads]
    batch = objective.prepare(batch_of(valid=np.zeros(BATCH, bool)), jax.random.key(1))
    loss, figures = objective.loss({reads: jnp.asarray(logits_of())}, batch, batch)
    assert loss == 0 and figures["accuracy"] == 0


def test_large_bfloat16_logits_are_summed_in_float32():
    objective = OBJECTIVES["caption_logits"]
    logits = jnp.asarray(logits_of() * 100, jnp.bfloat16)
    batch = batch_of()
    loss, _ = objective.loss({"caption_logits": logits}, batch, batch)
    exact, _ = objective.loss({"caption_logits": logits.astype(jnp.float32)}, batch, batch)
    assert loss.dtype == jnp.float32
    assert loss == exact and np.isfinite(loss)


def test_masking_chooses_and_replaces_in_the_shares_of_bert():
    rate = 0.15
    objective = MaskedLanguage(config.MaskedLanguage(rate=rate), VOCABULARY)
    ids = texts(batch=2000, length=40)
    batch = {"text": jnp.asarray(ids), "valid": jnp.ones(2000, bool)}
    made = objective.prepare(batch, jax.random.key(7))
    labels, text = np.asarray(made["masked_labels"]), np.asarray(made["text"])
    ordinary, chosen = ~np.isin(ids, SPECIAL), labels != PAD
    assert not chosen[~ordinary].any()
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(text[~chosen], ids[~chosen])

    def assert_share(count, of, share):
        assert abs(count - of * share) < 4 * np.sqrt(of * share * (1 - share))

    count = int(chosen.sum())
    assert_share(count, int(ordinary.sum()), rate)
    # A random token may be the mask or the word itself by chance.
    by_chance = 0.1 / VOCABULARY.size
    assert_share(int((text[chosen] == MASK).sum()), count, 0.8 + by_chance)
    assert_share(int((text[chosen] == ids[chosen]).sum()), count, 0.1 + by_chance)
    others = text[chosen & (text != MASK) & (text != ids)]
    assert others.min() == 0 and others.max() == VOCABULARY.size - 1


def test_masks_depend_on_the_key_alone():
    objective = OBJECTIVES["word_logits"]
    first, again, other = (
        np.asarray(objective.prepare(batch_of(), jax.random.key(k))["text"]) for k in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_vocabulary_without_a_mask_is_refused():
    with pytest.raises(UserError, match="mask token"):
        MaskedLanguage(config.MaskedLanguage(), VOCABULARY._replace(mask_id=-1))
