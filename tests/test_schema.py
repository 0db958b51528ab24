"""Dictionaries to dataclasses: what is refused, where, and with which words."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from multimodal.errors import UserError
from multimodal.schema import from_dict, nearest, to_dict


@dataclass(frozen=True)
class Square:
    side: float
    kind: Literal["square"] = "square"


@dataclass(frozen=True)
class Circle:
    radius: float = 1.0
    kind: Literal["circle"] = "circle"


@dataclass(frozen=True)
class Drawing:
    title: str
    shape: Square | Circle = field(default_factory=Circle)
    layers: dict[str, Circle] = field(default_factory=dict)
    size: tuple[int, int] = (3, 4)
    marks: tuple[int | str, ...] = ()
    scale: float | None = None
    framed: bool = False
    copies: int = 1
    note: dict[str, Any] = field(default_factory=dict)


FULL = {
    "title": "a",
    "shape": {"kind": "square", "side": 2},
    "layers": {"top": {"radius": 3.0}},
    "size": [5, 6],
    "marks": [1, "x"],
    "scale": 2,
    "framed": True,
    "copies": 7,
    "note": {"any": [1, None]},
}


def test_everything_a_field_may_hold():
    made = from_dict(Drawing, FULL)
    assert made == Drawing(
        "a", Square(2.0), {"top": Circle(3.0)}, (5, 6), (1, "x"), 2.0, True, 7, {"any": [1, None]}
    )
    assert isinstance(made.shape.side, float) and isinstance(made.scale, float)
    assert from_dict(Drawing, json.loads(json.dumps(to_dict(made)))) == made
    assert from_dict(Drawing, {"title": "b"}) == Drawing("b")
    assert from_dict(Drawing, made) is made


WRONG = {
    "unknown": ({"titel": "a"}, "config.titel: no such setting; did you mean 'title'?"),
    "unknown below": (
        {"title": "a", "layers": {"top": {"radios": 1}}},
        "config.layers.top.radios: no such setting; did you mean 'radius'?",
    ),
    "nothing near": (
        {"title": "a", "shape": {"kind": "circle", "zzz": 1}},
        "config.shape.zzz: no such setting; known: kind, radius",
    ),
    "missing": ({}, "config.title: missing; it has no default"),
    "missing below": (
        {"title": "a", "shape": {"kind": "square"}},
        "config.shape.side: missing; it has no default",
    ),
    "text for number": ({"title": "a", "copies": "1"}, "config.copies: expected int, got '1'"),
    "fraction": ({"title": "a", "copies": 1.0}, "config.copies: expected int, got 1.0"),
    "truth for number": ({"title": "a", "copies": True}, "config.copies: expected int, got True"),
    "truth for fraction": ({"title": "a", "scale": True}, "config.scale: expected float, got True"),
    "number for truth": ({"title": "a", "framed": 1}, "config.framed: expected bool, got 1"),
    "none": ({"title": None}, "config.title: expected str, got None"),
    "table": (
        {"title": "a", "layers": 3},
        "config.layers: expected a table of named settings, got 3",
    ),
    "short": ({"title": "a", "size": [1]}, "config.size: expected 2 values, got [1]"),
    "no list": ({"title": "a", "size": 3}, "config.size: expected a list, got 3"),
    "in a list": ({"title": "a", "size": [1, "2"]}, "config.size[1]: expected int, got '2'"),
    "of neither type": (
        {"title": "a", "marks": [1.5]},
        "config.marks[0]: expected int or str, got 1.5",
    ),
    "no kind": (
        {"title": "a", "shape": {"side": 1}},
        "config.shape: needs a 'kind', one of circle, square",
    ),
    "another kind": (
        {"title": "a", "shape": {"kind": "sqare"}},
        "config.shape.kind: no kind 'sqare'; did you mean 'square'?",
    ),
    "no table": ("a", "config: expected a table of settings, got 'a'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name):
    values, said = WRONG[name]
    with pytest.raises(UserError) as error:
        from_dict(Drawing, values)
    assert str(error.value) == said


def test_literals_name_their_values():
    with pytest.raises(UserError, match="^x.kind: 'oval' is not one of 'circle'$"):
        from_dict(Circle, {"kind": "oval"}, "x")


def test_nearest():
    assert nearest("colour", ["color", "size"]) == "; did you mean 'color'?"
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"
