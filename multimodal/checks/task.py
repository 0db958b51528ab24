"""What a task's signals ask of the model and of the data."""

from multimodal import config as settings
from multimodal.checks.require import (
    check_fields,
    check_pair,
    positive,
    require,
    share,
)
from multimodal.config import Config


def check_task(task: settings.Task, config: Config, where: str) -> None:
    """A task named `where`. Raises UserError."""
    require(bool(task.objectives), f"{where}.objectives: a task needs at least one")
    positive(task, where, "weight")
    workers, broken = task.data.workers, task.data.max_broken
    require(workers >= 0, f"{where}.data.workers={workers}: may not be below 0")
    require(0 <= broken <= 1, f"{where}.data.max_broken={broken}: a share from 0 to 1")
    inputs = _inputs(task, config.model)
    check_fields(task.data, inputs, f"{where}.data.fields: training")
    require(
        task.data.texts == 1
        or type(config.model) is settings.DualEncoder
        and all(isinstance(o, settings.Contrastive) for o in task.objectives.values()),
        f"{where}.data.texts={task.data.texts}: several texts a picture are for dual encoders "
        "(config.model.kind='dual_encoder') whose objectives are all contrastive",
    )
    masked = [n for n, o in task.objectives.items() if isinstance(o, settings.MaskedLanguage)]
    for name, objective in task.objectives.items():
        if isinstance(objective, settings.Contrastive):
            _check_contrast(objective, task.data, config.model, f"{where}.objectives.{name}")
            require(
                objective.positives != "text" or not masked,
                f"{where}.objectives.{name}.positives='text' compares texts whose words are masked "
                f"by {where}.objectives.{''.join(masked[:1])}; use 'own' or 'label', or two tasks",
            )
        require(
            not isinstance(objective, settings.Matching) or "image" in inputs,
            f"{where}.objectives.{name}: config.model ({config.model.kind}) sees no image to match",
        )
        if isinstance(objective, settings.Distillation):
            _check_imitation(objective, config.model, f"{where}.objectives.{name}")
        if isinstance(objective, settings.Classification):
            _check_classification(objective, task.data, f"{where}.objectives.{name}")
        for setting in ("rate", "begin"):
            if hasattr(objective, setting):
                share(objective, f"{where}.objectives.{name}", setting)
        if isinstance(objective, settings.SelfDistillation | settings.MaskedPatches):
            _check_taught(objective, config, f"{where}.objectives.{name}")
    require(
        any(getattr(objective, "begin", 0) == 0 for objective in task.objectives.values()),
        f"{where}.objectives: none has begin=0, so the first steps have nothing to train on",
    )


def _inputs(task: settings.Task, model: settings.Model) -> tuple[str, ...]:
    """Entries of the batch that the model needs for a task."""
    alone = {settings.Classifier: ("image",), settings.Bert: ("text",)}
    if type(model) in alone:
        return alone[type(model)]
    entries = settings.entries(getattr(model, "towers", {}))
    pairs = settings.Contrastive | settings.Distillation
    contrasts = [o for o in task.objectives.values() if isinstance(o, pairs)]
    compared = {entries[tower] for o in contrasts for tower in o.pair if tower in entries}
    return tuple(sorted(compared)) or ("image", "text")


def _check_contrast(
    objective: settings.Contrastive, data: settings.Data, model: settings.Model, where: str
) -> None:
    require(
        isinstance(model, settings.DualEncoder | settings.CoCa),
        f"{where}: contrastive compares two towers; config.model ({model.kind}) has none",
    )
    check_pair(objective.pair, model, f"{where}.pair")
    listed = getattr(model, "pairs", (("image", "text"),))
    told = ", ".join("-".join(pair) for pair in listed)
    require(
        objective.pair in listed,
        f"{where}.pair: {'-'.join(objective.pair)} is not among config.model.pairs: {told}",
    )
    require(
        objective.loss != "sigmoid" or getattr(model, "logit_bias_init", None) is not None,
        f"{where}.loss='sigmoid' needs a dual encoder with config.model.logit_bias_init, such as "
        "-10.0",
    )
    share(objective, where, "label_smoothing")
    require(
        objective.loss == "softmax" or not objective.label_smoothing,
        f"{where}.label_smoothing={objective.label_smoothing} is for loss='softmax'",
    )
    positive(objective, where, "chunk")
    if objective.positives != "own":
        check_fields(data, (objective.positives,), f"{where}.positives: the objective")


def _check_imitation(objective: settings.Distillation, model: settings.Model, where: str) -> None:
    require(
        isinstance(model, settings.DualEncoder),
        f"{where}: distillation compares two towers; config.model ({model.kind}) has none",
    )
    check_pair(objective.pair, model, f"{where}.pair")
    require(
        objective.pair in model.pairs,
        f"{where}.pair: {'-'.join(objective.pair)} is not among config.model.pairs",
    )
    require(
        all(isinstance(model.towers[name], settings.ImageTower | settings.TextTower)
            for name in objective.pair),
        f"{where}: the teacher needs pictures and texts, not what was precomputed",
    )  # fmt: skip
    for name in ("logits", "features"):
        value = getattr(objective, name)
        require(value >= 0, f"{where}.{name}={value}: may not be below 0")
    require(objective.logits + objective.features > 0, f"{where}: logits and features are both 0")


def _check_taught(
    objective: settings.SelfDistillation | settings.MaskedPatches, config: Config, where: str
) -> None:
    model = config.model
    require(
        isinstance(model, settings.Siglip2) and model.heads is not None,
        f"{where}: {objective.kind} needs a model of kind siglip2 with config.model.heads",
    )
    require(
        config.ema is not None,
        f"{where}: the teacher is the average of the parameters; set config.ema, such as 0.999",
    )
    require(
        model.towers["image"].max_patches is None,
        f"{where}: {objective.kind} makes square views; not with "
        "config.model.towers.image.max_patches",
    )
    patch = model.towers["image"].patch_size
    told = f"config.model.towers.image.patch_size={patch}"
    if isinstance(objective, settings.SelfDistillation):
        positive(objective, where, "local_views", "local_size")
        size = objective.local_size
        require(size % patch == 0, f"{where}.local_size={size} is not a multiple of {told}")
    else:
        size = objective.patch_size
        require(size == patch, f"{where}.patch_size={size} differs from {told}")
    positive(objective, where, "student_temperature", "teacher_temperature", "chunk")


def _check_classification(
    objective: settings.Classification, data: settings.Data, where: str
) -> None:
    check_fields(data, ("image", "label"), f"{where}: classification")
    share(objective, where, "label_smoothing")
    require(objective.mixup >= 0, f"{where}.mixup={objective.mixup}: may not be below 0")
