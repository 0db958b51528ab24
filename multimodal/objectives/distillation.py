"""Agreement with a teacher, the average of the parameters, on views of a picture (SILC, TIPS)."""

import jax
import jax.numpy as jnp

from multimodal import config
from multimodal.objectives.objective import Batch, Metrics, Vocabulary
from multimodal.objectives.views import GLOBAL_AREA, LOCAL_AREA, random_views
from multimodal.parallel.rules import constrain


def prototype_cross_entropy(
    student: jax.Array,  # [batch, positions, bottleneck], unit vectors
    teacher: jax.Array,  # [batch, positions, bottleneck], less their centre
    student_prototypes: jax.Array,  # [prototypes, bottleneck], unit vectors
    teacher_prototypes: jax.Array,
    temperatures: tuple[float, float],  # of student and teacher
    chunk: int = 8,
) -> tuple[jax.Array, jax.Array]:
    """H(p, q) = -sum p log q of each position, and the entropy H(p): float32 [batch, positions].

    p and q are the softmax of teacher and student over their prototypes (Caron et al. 2021). The
    teacher's centre is taken off its features rather than off its logits: these are linear in
    them. Logits exist for `chunk` positions at a time, forward and backward.
    """

    def logits(x: jax.Array, prototypes: jax.Array, temperature: float) -> jax.Array:
        scores = jnp.einsum("be,pe->bp", x, prototypes, preferred_element_type=jnp.float32)
        return constrain(scores / temperature, "batch", "vocab")

    def at_position(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        log_q = jax.nn.log_softmax(logits(pair[0], student_prototypes, temperatures[0]))
        log_p = jax.nn.log_softmax(logits(pair[1], teacher_prototypes, temperatures[1]))
        p = jnp.exp(log_p)
        return -(p * log_q).sum(-1), -(p * log_p).sum(-1)

    pairs = student.swapaxes(0, 1), teacher.swapaxes(0, 1)
    sums = jax.lax.map(jax.checkpoint(at_position), pairs, batch_size=chunk)
    return sums[0].T, sums[1].T


class SelfDistillation:
    """Local crops of a picture say what the teacher says of a global one (SILC, Naeem et al. 2023).

    Reads `local_features`; of the teacher, which sees the `view`, `view_features`. The centre is
    the mean over the batch of the step: nearly as good as a running one (Caron et al. 2021), and
    nothing to keep.
    """

    reads, joint = ("local_features", "weights"), False
    teacher_sees, teacher_reads = ("view",), ("view_features",)

    def __init__(self, settings: config.SelfDistillation, vocabulary: Vocabulary):
        self.settings, self.weight = settings, settings.weight

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        s = self.settings
        view_key, local_key = jax.random.split(key)
        local = random_views(local_key, batch["image"], s.local_views, s.local_size, LOCAL_AREA)
        return _with_view(batch, view_key) | {"local_views": local}

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        student, name = outputs["local_features"], "teacher/view_features"
        teacher = batch[name] - _mean(whole[name], whole["valid"])
        teacher = jnp.broadcast_to(teacher[:, None], student.shape)
        return _agreement("view", self.settings, student, teacher, outputs, batch, whole)


class MaskedPatches:
    """Patches that the student is not shown are as the teacher sees them (TIPS, Maninis et al.
    2025; iBOT, Zhou et al. 2022).

    A share `rate` of the `view`'s patches, the same number in each picture, is masked. Reads
    `masked_features`; of the teacher, which sees them all, `patch_features`, centred as above.
    """

    reads, joint = ("masked_features", "weights"), False
    teacher_sees, teacher_reads = ("view",), ("patch_features",)

    def __init__(self, settings: config.MaskedPatches, vocabulary: Vocabulary):
        self.settings, self.weight = settings, settings.weight

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        view_key, mask_key = jax.random.split(key)
        batch = _with_view(batch, view_key)
        patches = (batch["view"].shape[1] // self.settings.patch_size) ** 2
        order = jnp.argsort(jax.random.uniform(mask_key, (len(batch["view"]), patches)), axis=1)
        return batch | {"masked_patches": order[:, : max(1, round(self.settings.rate * patches))]}

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        name = "teacher/patch_features"
        centre = _mean(whole[name].mean(1), whole["valid"])
        masked = batch["masked_patches"][..., None]
        teacher = jnp.take_along_axis(batch[name], masked, axis=1) - centre
        student = outputs["masked_features"]
        return _agreement("patch", self.settings, student, teacher, outputs, batch, whole)


def _with_view(batch: Batch, key: jax.Array) -> Batch:
    """The batch with one global crop of each picture, which several objectives share."""
    if "view" in batch:
        return batch
    images = batch["image"]
    return batch | {"view": random_views(key, images, 1, images.shape[1], GLOBAL_AREA)[:, 0]}


def _mean(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Over the valid rows of x [batch, ...]."""
    weights = valid.astype(x.dtype)
    x = jnp.where(valid[:, None], x, 0)
    return x.sum(0) / jnp.maximum(weights.sum(), 1)


def _agreement(
    name: str,
    settings: config.SelfDistillation | config.MaskedPatches,
    student: jax.Array,
    teacher: jax.Array,
    outputs: dict,
    batch: Batch,
    whole: Batch,
) -> tuple[jax.Array, Metrics]:
    """The mean over positions and valid examples, and the entropy of the teacher's answers."""
    prototypes = outputs["weights"][name], outputs["teacher/weights"][name]
    temperatures = settings.student_temperature, settings.teacher_temperature
    losses = prototype_cross_entropy(student, teacher, *prototypes, temperatures, settings.chunk)
    count = jnp.maximum(whole["valid"].sum(), 1)
    loss, entropy = (jnp.where(batch["valid"], x.mean(1), 0).sum() / count for x in losses)
    return loss, {"teacher_entropy": entropy}
