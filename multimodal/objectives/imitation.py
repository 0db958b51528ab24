"""Agreement with a model that was trained before and stays as it is (CLIP-KD, Yang et al. 2024,
arXiv:2307.12732; TinyCLIP, Wu et al. 2023)."""

import jax
import jax.numpy as jnp

from multimodal import config
from multimodal.objectives.objective import Batch, Metrics, Vocabulary
from multimodal.parallel.rules import constrain


def shares(a: jax.Array, b: jax.Array, log_scale: jax.Array, valid: jax.Array) -> jax.Array:
    """log softmax over j of exp(log_scale) a[i].b[j], float32 [batch, batch], without columns that
    are not valid. a, b: unit vectors [batch, embed]. Each device has the rows of its examples."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    logits = jnp.exp(log_scale) * jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    logits = constrain(logits, "batch", None)
    return jax.nn.log_softmax(jnp.where(valid, logits, -1e30), axis=-1)


class Distillation:
    """`config.Distillation`; reads the pair's embeddings and temperature, and those of the teacher
    in the batch, as `teacher_key` names them.

    With p the teacher's and q the student's shares, each at its own temperature,
        logits    mean over rows of sum p (log p - log q), of both directions (CLIP-KD's CRD)
        features  mean over rows of |student - teacher|^2, of both towers (its FD)
    """

    joint = True

    def __init__(self, settings: config.Distillation, vocabulary: Vocabulary):
        self.settings, self.weight = settings, settings.weight
        self.reads = (*settings.pair, "temperature")

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        return batch

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        s, valid = self.settings, batch["valid"]
        scale = outputs["temperature"]["-".join(s.pair)]["log_scale"]
        told = [batch[teacher_key(s, name)] for name in (*s.pair, "log_scale")]
        ours, theirs = [outputs[name] for name in s.pair], told[:2]

        def mean(rows: jax.Array) -> jax.Array:
            return jnp.where(valid, rows, 0).sum() / jnp.maximum(valid.sum(), 1)

        loss, figures = jnp.zeros(()), {}
        if s.logits:
            both = []
            for order in (1, -1):
                log_p = shares(*theirs[::order], told[2][0], valid)
                log_q = shares(*ours[::order], scale, valid)
                both.append(mean((jnp.exp(log_p) * (log_p - log_q)).sum(-1)))
            figures["logits"] = sum(both) / 2
            loss += s.logits * figures["logits"]
        if s.features:
            apart = [jnp.square(a - b).sum(-1) for a, b in zip(ours, theirs, strict=True)]
            figures["features"] = sum(map(mean, apart)) / 2
            loss += s.features * figures["features"]
        return loss, figures


def teacher_key(settings: config.Distillation, name: str) -> str:
    """Where the batch has what a teacher says: of a tower [batch, embed], or its log_scale,
    repeated [batch]."""
    at = "" if settings.step is None else f"@{settings.step}"
    return f"teacher/{settings.teacher}{at}/{name}"
