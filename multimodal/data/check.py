"""Settings of data that cannot work, told before anything is read."""

from multimodal import config
from multimodal.errors import UserError

FIELDS = ("image", "text", "label", "image_features", "tags")
_RAREST = 1 << 18  # a part of a mixture comes at least once among so many examples


def check(data: config.Data) -> None:
    """Raises UserError for a field that no model reads, or a value out of its range."""
    if not data.fields:
        raise UserError(f"data.fields: name at least one of {', '.join(FIELDS)}")
    for name in data.fields:
        if name not in FIELDS:
            raise UserError(f"data.fields.{name}: a model reads only {', '.join(FIELDS)}")
    if "tags" in data.fields and "text" not in data.fields:
        raise UserError("data.fields.tags: tags go into the text; name that field too")
    if not 0 <= data.tags.share <= 1:
        raise UserError(f"data.tags.share={data.tags.share}: a share from 0 to 1")
    if data.tags.most < 1:
        raise UserError(f"data.tags.most={data.tags.most}: must be positive")
    if not 0 <= data.bpe_dropout <= 1:
        raise UserError(f"data.bpe_dropout={data.bpe_dropout}: a probability from 0 to 1")
    for name in ("group", "window", "texts"):
        if getattr(data, name) < 1:
            raise UserError(f"data.{name}={getattr(data, name)}: must be positive")
    if data.sampling == "replacement" and not (data.shuffle and data.group == data.window == 1):
        raise UserError(
            "data.sampling='replacement' draws each record by itself: leave out shuffle, group and "
            "window"
        )
    for template in data.templates:
        if "{}" not in template:
            raise UserError(f"data.templates: {template!r} has no {{}} for the text")
    for name, weight in data.languages.items():
        if weight < 0:
            raise UserError(f"data.languages.{name}={weight}: may not be below 0")
    if data.languages and not sum(data.languages.values()):
        raise UserError("data.languages: every weight is 0")
    if isinstance(data.source, config.Mixture):
        _check_mixture(data.source, data)


def _check_mixture(mixture: config.Mixture, data: config.Data) -> None:
    if not mixture.parts:
        raise UserError("data.source.parts: a mixture needs at least one")
    if data.where or data.holdout:
        raise UserError("data: say where and holdout in the parts of the mixture")
    total = sum(part.weight for part in mixture.parts.values())
    for name, part in mixture.parts.items():
        if part.weight <= 0 or part.weight < total / _RAREST:
            raise UserError(
                f"data.source.parts.{name}.weight={part.weight}: must be above 0, and at least one "
                f"in {_RAREST} of the sum"
            )
    known = {"key", "part"}.union(*(part.fields for part in mixture.parts.values()))
    for name, path in data.fields.items():
        if not known & set(path.split("|")):
            raise UserError(
                f"data.fields.{name}: no part of the mixture has {path!r} among its fields; they "
                f"have: {', '.join(sorted(known))}"
            )
