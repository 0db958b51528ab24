"""Signals that predict tokens: the next one of a caption, or masked ones."""

import jax
import jax.numpy as jnp

from multimodal import config
from multimodal.errors import UserError
from multimodal.objectives.objective import Batch, Metrics, Vocabulary
from multimodal.parallel.rules import constrain


def cross_entropy(
    logits: jax.Array,  # [batch, length, vocab]
    labels: jax.Array,  # [batch, length]
    weights: jax.Array,  # [batch, length], 0 where nothing is to be predicted
    count: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Sum over tokens of weight * -log p(label), and of hits, both divided by `count`."""
    logits = logits.astype(jnp.float32)
    count = jnp.maximum(count, 1)
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - chosen
    hits = (logits.argmax(-1) == labels) * weights
    return (losses * weights).sum() / count, {"accuracy": hits.sum() / count}


class Captioning:
    """Next-token cross-entropy of the text, mean over its tokens; reads `caption_logits`."""

    reads = ("caption_logits",)
    joint = False

    def __init__(self, settings: config.Captioning, vocabulary: Vocabulary):
        self.weight, self.pad_id = settings.weight, vocabulary.pad_id

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        return batch

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        count = self._weights(whole).sum()
        logits, labels = outputs["caption_logits"][:, :-1], batch["text"][:, 1:]
        return cross_entropy(logits, labels, self._weights(batch), count)

    def _weights(self, batch: Batch) -> jax.Array:
        real = (batch["text"][:, 1:] != self.pad_id) & batch["valid"][:, None]
        return real.astype(jnp.float32)


class DecoderCaptioning:
    """Cross-entropy of every token of the text, mean over them; reads `caption_features`, whose row
    i is to predict token i, and the table of words in `weights`.

    A share `parallel` of the examples is predicted from no word (CapPa, Tschannen et al. 2023).
    Logits exist for `chunk` positions at a time, forward and backward: those of a whole batch over
    256,000 words would fill the device.
    """

    reads = ("caption_features", "weights")
    joint = False

    def __init__(self, settings: config.DecoderCaptioning, vocabulary: Vocabulary):
        self.weight, self.parallel, self.chunk = settings.weight, settings.parallel, settings.chunk
        self.pad_id = vocabulary.pad_id

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        return batch | {"parallel": jax.random.uniform(key, batch["valid"].shape) < self.parallel}

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        count = self._weights(whole).sum()
        features = outputs["caption_features"]
        table = outputs["weights"]["caption"].astype(features.dtype)

        def at_position(entries: tuple) -> tuple[jax.Array, Metrics]:
            x, *labels_and_weights = entries
            logits = jnp.einsum("be,ve->bv", x, table, preferred_element_type=jnp.float32)
            logits = constrain(logits, "batch", "vocab")
            return cross_entropy(*(y[:, None] for y in (logits, *labels_and_weights)), count)

        entries = features.swapaxes(0, 1), batch["text"].T, self._weights(batch).T
        sums = jax.lax.map(jax.checkpoint(at_position), entries, batch_size=self.chunk)
        return jax.tree.map(lambda x: x.sum(0), sums)

    def _weights(self, batch: Batch) -> jax.Array:
        return ((batch["text"] != self.pad_id) & batch["valid"][:, None]).astype(jnp.float32)


class MaskedLanguage:
    """Masked words (Devlin et al. 2019), mean over the chosen ones; reads `word_logits`.

    Each ordinary token is chosen with probability `rate`; of the chosen 80 % become the mask, 10 %
    a random token, 10 % stay.
    """

    reads = ("word_logits",)
    joint = False

    def __init__(self, settings: config.MaskedLanguage, vocabulary: Vocabulary):
        self.weight, self.rate, self.vocabulary = settings.weight, settings.rate, vocabulary
        if vocabulary.mask_id < 0:
            raise UserError("masked_language needs a tokenizer with a mask token, [MASK] or <mask>")

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        ids, v = batch["text"], self.vocabulary
        ordinary = ~jnp.isin(ids, jnp.array(v.special))
        choose, how, which = jax.random.split(key, 3)
        chosen = (jax.random.uniform(choose, ids.shape) < self.rate) & ordinary
        fate = jax.random.uniform(how, ids.shape)
        random = jax.random.randint(which, ids.shape, 0, v.size, ids.dtype)
        masked = jnp.where(fate < 0.8, v.mask_id, jnp.where(fate < 0.9, random, ids))
        labels = jnp.where(chosen, ids, v.pad_id)
        return batch | {"text": jnp.where(chosen, masked, ids), "masked_labels": labels}

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        count = self._weights(whole).sum()
        labels, weights = batch["masked_labels"], self._weights(batch)
        return cross_entropy(outputs["word_logits"], labels, weights, count)

    def _weights(self, batch: Batch) -> jax.Array:
        chosen = (batch["masked_labels"] != self.vocabulary.pad_id) & batch["valid"][:, None]
        return chosen.astype(jnp.float32)
