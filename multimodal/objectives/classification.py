"""Which of the classes is it? With mixup and label smoothing."""

import jax
import jax.numpy as jnp

from multimodal import config
from multimodal.objectives.objective import Batch, Metrics, Vocabulary


class Classification:
    """Cross-entropy of the label, mean over examples; reads `class_logits` [batch, classes].

    "softmax" takes the classes as exclusive; "sigmoid" asks yes or no for each and sums over them
    (Beyer et al. 2020, arXiv:2006.07159). Both are linear in the target, so that smoothing and
    mixing blend logits and no [batch, classes] target is built.

    Mixup (Zhang et al. 2018, arXiv:1710.09412): pictures and targets are blended with those of the
    batch rolled by one, all at one ratio from Beta(mixup, mixup), of which their own is the larger.
    """

    reads = ("class_logits",)
    joint = False

    def __init__(self, settings: config.Classification, vocabulary: Vocabulary):
        self.settings, self.weight = settings, settings.weight
        self.mean, self.std = vocabulary.mean, vocabulary.std

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        """With mixup, `image` leaves as float32, normalised: rounded back to bytes it would not be
        the blend."""
        p = self.settings.mixup
        if p == 0:
            return batch
        ratio = jax.random.beta(key, p, p)
        ratio = jnp.maximum(ratio, 1 - ratio)
        # Beside a broken example, which is black, a picture stays as it is.
        share = jnp.where(jnp.roll(batch["valid"], 1), ratio, 1.0)
        of_own = share[:, None, None, None]
        images, rolled = batch["image"], jnp.roll(batch["image"], 1, axis=0)
        mixed = of_own * images + (1 - of_own) * rolled
        if images.dtype == jnp.uint8:
            mixed = (mixed / 255 - jnp.array(self.mean)) / jnp.array(self.std)
        return batch | {
            "image": mixed,
            "share": share,
            "other_label": jnp.roll(batch["label"], 1),
        }

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        s, logits = self.settings, outputs["class_logits"].astype(jnp.float32)
        at_target = _at(logits, batch["label"])
        if s.mixup > 0:
            share = batch["share"]
            at_target = share * at_target + (1 - share) * _at(logits, batch["other_label"])
        if s.label_smoothing > 0:
            at_target += s.label_smoothing * (logits.mean(-1) - at_target)
        if s.loss == "softmax":
            losses = jax.nn.logsumexp(logits, axis=-1) - at_target
        else:
            losses = jax.nn.softplus(logits).sum(-1) - at_target
        valid, count = batch["valid"], jnp.maximum(whole["valid"].sum(), 1)
        hits = (logits.argmax(-1) == batch["label"]) & valid
        return jnp.where(valid, losses, 0).sum() / count, {"accuracy": hits.sum() / count}


def _at(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """logits[i, labels[i]], [batch]; NaN where there is no such class."""
    return jnp.take_along_axis(logits, labels[:, None], axis=-1, mode="fill")[:, 0]
