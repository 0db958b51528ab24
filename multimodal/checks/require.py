"""The words that checks are written in."""

from typing import Any

from multimodal import config as settings
from multimodal.errors import UserError
from multimodal.schema import nearest


def check_fields(data: settings.Data, wanted: tuple[str, ...], who: str) -> None:
    """The data give what `who` reads."""
    for name in wanted:
        require(name in data.fields, f"{who} reads {name!r}; given: {', '.join(data.fields)}")


def check_pair(pair: tuple[str, str], model: settings.Model, where: str) -> None:
    """The model has both towers."""
    towers = tower_names(model)
    for tower in pair:
        require(tower in towers, f"{where}: no tower {tower!r}{nearest(tower, towers)}")


def tower_names(model: settings.Model) -> tuple[str, ...]:
    """Of any model; those without named towers have an image and a text."""
    return tuple(getattr(model, "towers", ("image", "text")))


def positive(part: Any, where: str, *names: str) -> None:
    """Each setting is above 0, or None."""
    for name in names:
        value = getattr(part, name)
        require(value is None or value > 0, f"{where}.{name}={value}: must be positive")


def share(part: Any, where: str, name: str) -> None:
    """A setting from 0 to below 1."""
    value = getattr(part, name)
    require(0 <= value < 1, f"{where}.{name}={value}: at least 0 and below 1")


def divides(part: Any, where: str, part_name: str, whole_name: str) -> None:
    """One setting of a part divides another."""
    positive(part, where, part_name, whole_name)
    small, whole = getattr(part, part_name), getattr(part, whole_name)
    require(
        whole % small == 0,
        f"{where}.{part_name}={small} does not divide {where}.{whole_name}={whole}",
    )


def require(condition: bool, message: str) -> None:
    """Raises UserError with the message unless the condition holds."""
    if not condition:
        raise UserError(message)
