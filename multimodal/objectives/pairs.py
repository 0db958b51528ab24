"""Contrast between one listed pair of towers."""

import jax
import jax.numpy as jnp

from multimodal import config
from multimodal.objectives.contrastive import sigmoid_loss, softmax_loss
from multimodal.objectives.objective import Batch, Metrics, Vocabulary


class ContrastivePair:
    """`config.Contrastive`; reads the two embeddings and the pair's temperature."""

    joint = True

    def __init__(self, settings: config.Contrastive, vocabulary: Vocabulary):
        self.settings, self.weight = settings, settings.weight
        self.reads = (*settings.pair, "temperature")

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        return batch

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        towers = [outputs[name] for name in self.settings.pair]
        temperature = outputs["temperature"]["-".join(self.settings.pair)]
        texts = max(x.shape[1] if x.ndim == 3 else 1 for x in towers)

        def losses():
            for i in range(texts):
                a, b = (x[:, i] if x.ndim == 3 else x for x in towers)
                yield self._loss(a, b, temperature, batch["valid"], self._ids(batch, i))

        return sum(losses()) / texts, dict(temperature)

    def _loss(
        self, a: jax.Array, b: jax.Array, temperature: dict, valid: jax.Array, ids: jax.Array | None
    ) -> jax.Array:
        s = self.settings
        if s.dtype == "bfloat16":
            a, b = a.astype(s.dtype), b.astype(s.dtype)
        options = {"valid": valid, "ids": ids, "form": s.form, "chunk": s.chunk}
        if s.loss == "softmax":
            options["smoothing"] = s.label_smoothing
            return softmax_loss(a, b, temperature["log_scale"], **options)
        return sigmoid_loss(a, b, temperature["log_scale"], temperature["bias"], **options)

    def _ids(self, batch: Batch, number: int) -> jax.Array | None:
        """What examples that match each other share, where it is their texts' the `number`th."""
        if self.settings.positives == "own":
            return None
        if self.settings.positives == "label":
            return batch["label"]
        text = batch["text"]
        return fingerprint(text[:, number] if text.ndim == 3 else text)


def fingerprint(tokens: jax.Array) -> jax.Array:
    """Two 32-bit numbers [batch, 2] for each row of token ids [batch, length], to tell texts apart.

    Equal rows have equal ones. Rows that differ in one token differ in both; any others share both
    with a probability of about 2**-64: among 32768 texts, once in 3e10 batches.
    """
    places = jnp.arange(tokens.shape[1], dtype=jnp.uint32)
    # Every token is scattered over all bits, by its place and in two ways, before the sum.
    seeds = jnp.array([0x9E3779B9, 0x85EBCA6B], jnp.uint32)[:, None] * (2 * places + 1)
    x = tokens.astype(jnp.uint32)[:, None] ^ seeds  # [batch, 2, length]
    for multiplier in (0x7FEB352D, 0x846CA68B):
        x = (x ^ (x >> 16)) * jnp.uint32(multiplier)
    return (x ^ (x >> 15)).sum(-1, dtype=jnp.uint32).astype(jnp.int32)
