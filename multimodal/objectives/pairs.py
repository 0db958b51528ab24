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
        s = self.settings
        a, b = (outputs[name] for name in s.pair)
        if s.dtype == "bfloat16":
            a, b = a.astype(s.dtype), b.astype(s.dtype)
        temperature = outputs["temperature"]["-".join(s.pair)]
        options = {"valid": batch["valid"], "form": s.form, "chunk": s.chunk}
        options["ids"] = self._ids(batch)
        if s.loss == "softmax":
            loss = softmax_loss(a, b, temperature["log_scale"], **options)
        else:
            loss = sigmoid_loss(a, b, temperature["log_scale"], temperature["bias"], **options)
        return loss, dict(temperature)

    def _ids(self, batch: Batch) -> jax.Array | None:
        """What examples that match each other share."""
        if self.settings.positives == "own":
            return None
        return batch["label"] if self.settings.positives == "label" else fingerprint(batch["text"])


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
