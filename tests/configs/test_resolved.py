"""What every recipe resolves to is stored here, so that a change of one is deliberate."""

import json

import pytest

from tests.configs import recipes


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_has_not_changed(name, monkeypatch):
    monkeypatch.chdir(recipes.ROOT)
    path, now = recipes.stored(name), recipes.settings(recipes.load(name))
    was = json.loads(path.read_text()) if path.exists() else None
    if now != was:
        told = "\n".join(_differences(was, now)) if was else f"{path.name} does not exist"
        pytest.fail(f"{name} has changed; if that is meant, run `make update-recipes`:\n{told}")


def test_no_default_has_changed():
    """Only what differs from the defaults is stored, so these decide too; new ones may come."""
    now, was = recipes.defaults(), json.loads(recipes.DEFAULTS.read_text())
    kept = {name: {k: now.get(name, {}).get(k) for k in old} for name, old in was.items()}
    told = "\n".join(_differences(was, kept, "default"))
    assert not told, f"if that is meant, run `make update-recipes`:\n{told}"


def test_no_recipe_is_gone():
    left = {path.name for path in recipes.STORED.glob("*.json")}
    assert left == {recipes.stored(name).name for name in recipes.names()}, "make update-recipes"


def test_every_variant_is_of_a_recipe():
    assert set(recipes.VARIANTS) <= set(recipes.names())


def _differences(was, now, where="config"):
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted(was.keys() | now.keys()):
            yield from _differences(was.get(key), now.get(key), f"{where}.{key}")
    elif was != now:
        yield f"{where} was {was!r} and is now {now!r}"
