"""Contrast between one listed pair of towers."""

import jax

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
        temperature = outputs["temperature"]["-".join(s.pair)]
        options = {"valid": batch["valid"], "form": s.form, "chunk": s.chunk}
        if s.loss == "softmax":
            loss = softmax_loss(a, b, temperature["log_scale"], **options)
        else:
            loss = sigmoid_loss(a, b, temperature["log_scale"], temperature["bias"], **options)
        return loss, dict(temperature)
