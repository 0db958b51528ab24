"""What an evaluator asks of the model and of its data."""

from multimodal import config as settings
from multimodal.checks.require import check_fields, positive, require, tower_names


def check_evaluator(
    evaluator: settings.Evaluator, name: str, model: settings.Model, where: str
) -> None:
    """An evaluator named `where`. Raises UserError."""
    require("/" not in name, f"{where}: a name may not hold a slash")
    positive(evaluator, where, "every", "batch_size")
    two = isinstance(model, settings.DualEncoder | settings.CoCa)
    classifier = isinstance(model, settings.Classifier)
    match evaluator:
        case settings.Accuracy():
            able, need = classifier, "a model of kind classifier"
        case settings.LinearProbe() | settings.KNN():
            able, need = classifier or two and "image" in tower_names(model), "a tower 'image'"
        case _:
            able = two and {"image", "text"} <= set(tower_names(model))
            need = "a tower 'image' and a tower 'text'"
    require(able, f"{where}: {evaluator.kind} needs {need}; config.model is of kind {model.kind}")
    second = "text" if isinstance(evaluator, settings.Retrieval) else "label"
    picture = settings.entries(getattr(model, "towers", {})).get("image", "image")
    check_fields(evaluator.data, (picture, second), f"{where}.data.fields: {evaluator.kind}")
    match evaluator:
        case settings.Retrieval():
            require(
                evaluator.by is None or evaluator.languages == "together",
                f"{where}.by={evaluator.by!r}: not with languages='apart'",
            )
        case settings.ZeroShot():
            _check_prompts(evaluator, where)
        case settings.Accuracy():
            count = len(evaluator.classes)
            require(
                count in (0, model.classes),
                f"{where}.classes: {count} names for the model's {model.classes} classes",
            )
        case settings.LinearProbe() | settings.KNN():
            _check_probe(evaluator, picture, where)


def _check_prompts(evaluator: settings.ZeroShot, where: str) -> None:
    classes, labels = evaluator.classes, evaluator.labels
    require(len(classes) != 1, f"{where}.classes: name at least two")
    require(
        not labels or len(labels) == len(classes),
        f"{where}.labels: {len(labels)} labels for {len(classes)} classes",
    )
    require(bool(evaluator.templates), f"{where}.templates: give at least one")
    for template in evaluator.templates:
        require(
            "{}" in template or "{c}" in template,
            f"{where}.templates: {template!r} has no {{}} for the name",
        )


def _check_probe(evaluator: settings.LinearProbe | settings.KNN, picture: str, where: str) -> None:
    if evaluator.train is None:
        require(
            evaluator.data.holdout is not None,
            f"{where}: {evaluator.kind} needs examples to train on: {where}.train, or "
            f"{where}.data.holdout",
        )
    else:
        fields = f"{where}.train.fields: {evaluator.kind}"
        check_fields(evaluator.train, (picture, "label"), fields)
    if isinstance(evaluator, settings.LinearProbe):
        require(bool(evaluator.c), f"{where}.c: give at least one")
        for c in evaluator.c:
            require(c > 0, f"{where}.c={c}: must be positive")
    else:
        positive(evaluator, where, "k", "temperature")
