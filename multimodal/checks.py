"""What goes together and what does not: the checks between settings, before anything is built."""

from typing import Any

from multimodal import config as settings
from multimodal.config import Config, parts
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from multimodal.schema import nearest


def check(config: Config) -> None:
    """Refuses combinations of settings that cannot work. Raises UserError naming both sides."""
    _positive(config, "config", "steps", "batch_size", "accumulate", "log_every")
    _positive(config.checkpoints, "config.checkpoints", "every", "keep", "keep_every")
    _require(
        config.batch_size % config.accumulate == 0,
        f"config.batch_size={config.batch_size} does not divide into "
        f"config.accumulate={config.accumulate} microbatches",
    )
    if config.ema is not None:
        _share(config, "config", "ema")
    for path, part in parts(config.model):
        _check_part(part, path, config.preprocessing)
        if isinstance(part, settings.Transformer):
            _check_stack(part, path, config)
    if isinstance(config.model, settings.DualEncoder):
        _check_towers(config.model)
    if isinstance(config.model, settings.Classifier):
        _check_classifier(config.model)
    if isinstance(config.model, settings.CoCa):
        _check_captioner(config.model)
    if isinstance(config.model, settings.Siglip2):
        _check_siglip2(config.model)
    if isinstance(config.model, settings.PrefixLM):
        _check_gives_tokens(config.model.image, "image")
    if isinstance(config.model, settings.Bert):
        _check_gives_tokens(config.model.text, "text")
    _require(bool(config.tasks), "config.tasks: a run needs at least one task")
    for name, task in config.tasks.items():
        _check_task(task, config, f"config.tasks.{name}")
    for name, evaluator in config.evaluators.items():
        _check_evaluator(evaluator, name, config.model, f"config.evaluators.{name}")


def _check_part(part: Any, path: str, preprocessing: Preprocessing) -> None:
    if isinstance(part, settings.Transformer):
        _positive(part, path, "width", "depth", "heads", "mlp")
        _divides(part, path, "heads", "width")
        for name in ("dropout", "attention_dropout", "drop_path"):
            _share(part, path, name)
        return
    if isinstance(part, settings.ImageTower):
        _divides(part, path, "patch_size", "image_size")
        _share(part, path, "patch_dropout")
        _check_patches(part, path, preprocessing)
        _require(
            part.pooler != "class" or part.class_token,
            f"{path}.pooler='class' needs {path}.class_token=True",
        )
    if isinstance(part, settings.Uniter):
        _divides(part, path, "region_size", "image_size")
    for name in ("image_size", "length"):
        wanted = getattr(preprocessing, name)
        value = getattr(part, name, wanted)
        _require(
            value == wanted,
            f"{path}.{name}={value} differs from config.preprocessing.{name}={wanted}",
        )


def _check_patches(image: settings.ImageTower, path: str, preprocessing: Preprocessing) -> None:
    most = image.max_patches
    _positive(image, path, "max_patches")
    for name in ("max_patches", "patch_size"):
        ours, wanted = getattr(image, name), getattr(preprocessing, name)
        _require(
            ours == wanted or (name == "patch_size" and most is None),
            f"{path}.{name}={ours} differs from config.preprocessing.{name}={wanted}",
        )
    if most is not None:
        for name in ("class_token", "patch_dropout"):
            _require(
                not getattr(image, name),
                f"{path}.{name}={getattr(image, name)}: not with {path}.max_patches={most}",
            )


def _check_stack(stack: settings.Transformer, path: str, config: Config) -> None:
    model = config.model
    _require(
        not stack.cross_attention or _reads_picture(stack, model),
        f"{path}.cross_attention=True: nothing is handed to it; only the decoder of coca and of "
        "siglip2 has it",
    )
    masked = isinstance(model, settings.PrefixLM | settings.Uniter | settings.Bert)
    masked |= isinstance(model, settings.Siglip2) and stack is model.decoder
    _require(
        not (masked and stack.causal),
        f"{path}.causal=True: {model.kind} says itself who sees whom",
    )
    if stack.attention == "cudnn":
        _require(
            stack.attention_dropout == 0,
            f"{path}.attention='cudnn' has no dropout; set {path}.attention_dropout=0",
        )
        _require(
            config.dtype == "bfloat16",
            f"{path}.attention='cudnn' computes in bfloat16; set config.dtype=bfloat16",
        )
        _require(
            stack.width // stack.heads % 8 == 0,
            f"{path}.attention='cudnn' needs width / heads = {stack.width // stack.heads} to be a "
            "multiple of 8",
        )


def _reads_picture(stack: settings.Transformer, model: settings.Model) -> bool:
    return isinstance(model, settings.CoCa | settings.Siglip2) and stack is model.decoder


def _check_gives_tokens(tower: settings.ImageTower | settings.TextTower, where: str) -> None:
    """The tower's own pooler and projection would be made and never used."""
    for name in ("pooler", "projection"):
        _require(
            getattr(tower, name) == "none",
            f"config.model.{where}.{name}={getattr(tower, name)!r}: this model reads the {where}'s "
            "tokens; set it to 'none'",
        )
    _require(
        getattr(tower, "max_patches", None) is None,
        f"config.model.{where}.max_patches: this model wants as many tokens of each picture",
    )


def _check_towers(model: settings.DualEncoder) -> None:
    _positive(model, "config.model", "embed")
    for name, tower in model.towers.items():
        where = f"config.model.towers.{name}"
        if isinstance(tower, settings.Precomputed):
            _check_precomputed(tower, model.embed, where)
            continue
        _require(tower.pooler != "none", f"{where}.pooler='none': a pair compares pooled towers")
        _require(
            tower.projection != "none" or tower.transformer.width == model.embed,
            f"{where}.transformer.width={tower.transformer.width} differs from "
            f"config.model.embed={model.embed} and {where}.projection='none'",
        )
    for pair in model.pairs:
        _check_pair(pair, model, "config.model.pairs")


def _check_precomputed(tower: settings.Precomputed, embed: int, where: str) -> None:
    _positive(tower, where, "width")
    _require(where.endswith(".image"), f"{where}.kind='precomputed': only the tower image can be")
    _require(
        tower.projection != "none" or tower.width == embed,
        f"{where}.width={tower.width} differs from config.model.embed={embed} and "
        f"{where}.projection='none'",
    )


def _check_classifier(model: settings.Classifier) -> None:
    _require(
        tuple(model.towers) == ("image",),
        f"config.model.towers={', '.join(model.towers)}: a classifier has one tower, image",
    )
    _require(model.classes > 1, f"config.model.classes={model.classes}: at least two")
    tower, where = model.towers["image"], "config.model.towers.image"
    _require(tower.pooler != "none", f"{where}.pooler='none': a classifier reads a pooled tower")
    _require(
        tower.projection == "none",
        f"{where}.projection={tower.projection!r}: a classifier's head is its projection; set it "
        "to 'none'",
    )


def _check_captioner(model: settings.CoCa) -> None:
    _positive(model, "config.model", "embed", "queries", "pooler_heads")
    _check_gives_tokens(model.image, "image")
    text, decoder = model.text.transformer, model.decoder
    open_clip = model.form == "open_clip"
    pooled = "decoder" if open_clip else "image.transformer"
    width = (decoder if open_clip else model.image.transformer).width
    for where, stack in (("text.transformer", text), ("decoder", decoder)):
        _require(
            stack.causal,
            f"config.model.{where}.causal=False: each token would see the one that it predicts",
        )
    _require(
        text.width == decoder.width,
        f"config.model.text.transformer.width={text.width} differs from "
        f"config.model.decoder.width={decoder.width}, through which the text goes on",
    )
    _require(
        width % model.pooler_heads == 0,
        f"config.model.pooler_heads={model.pooler_heads} does not divide "
        f"config.model.{pooled}.width={width}",
    )
    if open_clip:
        _require(
            model.queries > 1,
            f"config.model.queries={model.queries}: the first is for contrast, the captions need "
            "at least one more",
        )
        _require(
            decoder.norm_position == "pre",
            "config.model.decoder.norm_position='post': config.model.form='open_clip' has no such",
        )
    _require(
        model.decoder.cross_attention,
        "config.model.decoder.cross_attention=False: it is how the decoder sees the image",
    )


def _check_siglip2(model: settings.Siglip2) -> None:
    kinds = {name: tower.kind for name, tower in model.towers.items()}
    _require(
        kinds == {"image": "image", "text": "text"},
        f"config.model.towers={', '.join(kinds)}: siglip2 has the two towers image and text",
    )
    _require(
        model.decoder.cross_attention,
        "config.model.decoder.cross_attention=False: it is how the decoder sees the image",
    )


def _check_task(task: settings.Task, config: Config, where: str) -> None:
    _require(bool(task.objectives), f"{where}.objectives: a task needs at least one")
    _positive(task, where, "weight")
    workers, share = task.data.workers, task.data.max_broken
    _require(workers >= 0, f"{where}.data.workers={workers}: may not be below 0")
    _require(0 <= share <= 1, f"{where}.data.max_broken={share}: a share from 0 to 1")
    inputs = _inputs(task, config.model)
    _check_fields(task.data, inputs, f"{where}.data.fields: training")
    for name, objective in task.objectives.items():
        if isinstance(objective, settings.Contrastive):
            _check_contrast(objective, task.data, config.model, f"{where}.objectives.{name}")
        _require(
            not isinstance(objective, settings.Matching) or "image" in inputs,
            f"{where}.objectives.{name}: config.model ({config.model.kind}) sees no image to match",
        )
        if isinstance(objective, settings.Classification):
            _check_classification(objective, task.data, f"{where}.objectives.{name}")
        for setting in ("rate", "begin"):
            if hasattr(objective, setting):
                _share(objective, f"{where}.objectives.{name}", setting)
        if isinstance(objective, settings.SelfDistillation | settings.MaskedPatches):
            _check_taught(objective, config, f"{where}.objectives.{name}")
    _require(
        any(getattr(objective, "begin", 0) == 0 for objective in task.objectives.values()),
        f"{where}.objectives: none has begin=0, so the first steps have nothing to train on",
    )


def _inputs(task: settings.Task, model: settings.Model) -> tuple[str, ...]:
    """Entries of the batch that the model needs for a task."""
    alone = {settings.Classifier: ("image",), settings.Bert: ("text",)}
    if type(model) in alone:
        return alone[type(model)]
    entries = settings.entries(getattr(model, "towers", {}))
    contrasts = [o for o in task.objectives.values() if isinstance(o, settings.Contrastive)]
    compared = {entries[tower] for o in contrasts for tower in o.pair if tower in entries}
    return tuple(sorted(compared)) or ("image", "text")


def _check_contrast(
    objective: settings.Contrastive, data: settings.Data, model: settings.Model, where: str
) -> None:
    _require(
        isinstance(model, settings.DualEncoder | settings.CoCa),
        f"{where}: contrastive compares two towers; config.model ({model.kind}) has none",
    )
    _check_pair(objective.pair, model, f"{where}.pair")
    listed = getattr(model, "pairs", (("image", "text"),))
    told = ", ".join("-".join(pair) for pair in listed)
    _require(
        objective.pair in listed,
        f"{where}.pair: {'-'.join(objective.pair)} is not among config.model.pairs: {told}",
    )
    _require(
        objective.loss != "sigmoid" or getattr(model, "logit_bias_init", None) is not None,
        f"{where}.loss='sigmoid' needs a dual encoder with config.model.logit_bias_init, such as "
        "-10.0",
    )
    _positive(objective, where, "chunk")
    if objective.positives != "own":
        _check_fields(data, (objective.positives,), f"{where}.positives: the objective")


def _check_taught(
    objective: settings.SelfDistillation | settings.MaskedPatches, config: Config, where: str
) -> None:
    model = config.model
    _require(
        isinstance(model, settings.Siglip2) and model.heads is not None,
        f"{where}: {objective.kind} needs a model of kind siglip2 with config.model.heads",
    )
    _require(
        config.ema is not None,
        f"{where}: the teacher is the average of the parameters; set config.ema, such as 0.999",
    )
    _require(
        model.towers["image"].max_patches is None,
        f"{where}: {objective.kind} makes square views; not with "
        "config.model.towers.image.max_patches",
    )
    patch = model.towers["image"].patch_size
    told = f"config.model.towers.image.patch_size={patch}"
    if isinstance(objective, settings.SelfDistillation):
        _positive(objective, where, "local_views", "local_size")
        size = objective.local_size
        _require(size % patch == 0, f"{where}.local_size={size} is not a multiple of {told}")
    else:
        size = objective.patch_size
        _require(size == patch, f"{where}.patch_size={size} differs from {told}")
    _positive(objective, where, "student_temperature", "teacher_temperature", "chunk")


def _check_classification(
    objective: settings.Classification, data: settings.Data, where: str
) -> None:
    _check_fields(data, ("image", "label"), f"{where}: classification")
    _share(objective, where, "label_smoothing")
    _require(objective.mixup >= 0, f"{where}.mixup={objective.mixup}: may not be below 0")


def _check_pair(pair: tuple[str, str], model: settings.Model, where: str) -> None:
    towers = _tower_names(model)
    for tower in pair:
        _require(tower in towers, f"{where}: no tower {tower!r}{nearest(tower, towers)}")


def _check_evaluator(
    evaluator: settings.Evaluator, name: str, model: settings.Model, where: str
) -> None:
    _require("/" not in name, f"{where}: a name may not hold a slash")
    _positive(evaluator, where, "every", "batch_size")
    two = isinstance(model, settings.DualEncoder | settings.CoCa)
    classifier = isinstance(model, settings.Classifier)
    match evaluator:
        case settings.Accuracy():
            able, need = classifier, "a model of kind classifier"
        case settings.LinearProbe() | settings.KNN():
            able, need = classifier or two and "image" in _tower_names(model), "a tower 'image'"
        case _:
            able = two and {"image", "text"} <= set(_tower_names(model))
            need = "a tower 'image' and a tower 'text'"
    _require(able, f"{where}: {evaluator.kind} needs {need}; config.model is of kind {model.kind}")
    second = "text" if isinstance(evaluator, settings.Retrieval) else "label"
    picture = settings.entries(getattr(model, "towers", {})).get("image", "image")
    _check_fields(evaluator.data, (picture, second), f"{where}.data.fields: {evaluator.kind}")
    match evaluator:
        case settings.Retrieval():
            _require(
                evaluator.by is None or evaluator.languages == "together",
                f"{where}.by={evaluator.by!r}: not with languages='apart'",
            )
        case settings.ZeroShot():
            _check_prompts(evaluator, where)
        case settings.Accuracy():
            count = len(evaluator.classes)
            _require(
                count in (0, model.classes),
                f"{where}.classes: {count} names for the model's {model.classes} classes",
            )
        case settings.LinearProbe() | settings.KNN():
            _check_probe(evaluator, picture, where)


def _check_prompts(evaluator: settings.ZeroShot, where: str) -> None:
    classes, labels = evaluator.classes, evaluator.labels
    _require(len(classes) != 1, f"{where}.classes: name at least two")
    _require(
        not labels or len(labels) == len(classes),
        f"{where}.labels: {len(labels)} labels for {len(classes)} classes",
    )
    _require(bool(evaluator.templates), f"{where}.templates: give at least one")
    for template in evaluator.templates:
        _require(
            "{}" in template or "{c}" in template,
            f"{where}.templates: {template!r} has no {{}} for the name",
        )


def _check_probe(evaluator: settings.LinearProbe | settings.KNN, picture: str, where: str) -> None:
    if evaluator.train is None:
        _require(
            evaluator.data.holdout is not None,
            f"{where}: {evaluator.kind} needs examples to train on: {where}.train, or "
            f"{where}.data.holdout",
        )
    else:
        fields = f"{where}.train.fields: {evaluator.kind}"
        _check_fields(evaluator.train, (picture, "label"), fields)
    if isinstance(evaluator, settings.LinearProbe):
        _require(bool(evaluator.c), f"{where}.c: give at least one")
        for c in evaluator.c:
            _require(c > 0, f"{where}.c={c}: must be positive")
    else:
        _positive(evaluator, where, "k", "temperature")


def _check_fields(data: settings.Data, wanted: tuple[str, ...], who: str) -> None:
    for name in wanted:
        _require(name in data.fields, f"{who} reads {name!r}; given: {', '.join(data.fields)}")


def _tower_names(model: settings.Model) -> tuple[str, ...]:
    return tuple(getattr(model, "towers", ("image", "text")))


def _positive(part: Any, where: str, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        _require(value is None or value > 0, f"{where}.{name}={value}: must be positive")


def _share(part: Any, where: str, name: str) -> None:
    value = getattr(part, name)
    _require(0 <= value < 1, f"{where}.{name}={value}: at least 0 and below 1")


def _divides(part: Any, where: str, part_name: str, whole_name: str) -> None:
    _positive(part, where, part_name, whole_name)
    small, whole = getattr(part, part_name), getattr(part, whole_name)
    _require(
        whole % small == 0,
        f"{where}.{part_name}={small} does not divide {where}.{whole_name}={whole}",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
