"""Every recipe of `configs/` with its named variants, and the settings that each resolves to.

`python -m tests.configs.recipes` (`make update-recipes`) writes the settings anew.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from multimodal import config, recipe
from multimodal.config import Config
from multimodal.preprocessing import Preprocessing
from multimodal.schema import to_dict

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).parent / "resolved"
DEFAULTS = Path(__file__).parent / "defaults.json"

# A recipe as it stands is always among them; these are its options that make another run of it.
VARIANTS = {
    "clip_l14": ("res=336,start=RUN",),
    "clipa_l16": ("stage=finetune,start=RUN",),
    "finetune": ("method=frozen", "method=last", "method=decay", "method=lora"),
    "lit_b16": ("precomputed=true",),
    "pairs": ("loss=sigmoid", "form=siglip,loss=sigmoid"),
    "quickstart": ("loss=sigmoid",),
    "siglip2_b16": ("naflex=true",),
    "toy": ("family=coca", "family=uniter", "family=prefix_lm"),
    "vit_b16_supervised": ("classes=1000",),
}


def names() -> list[str]:
    """`clip_l14`, `clip_l14:res=336`, ..., by name."""
    files = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    return [name for file in files for name in (file, *variants(file))]


def variants(file: str) -> list[str]:
    return [f"{file}:{option}" for option in VARIANTS.get(file, ())]


def load(name: str) -> Config:
    """The checked config of a recipe, as the trainer gets it."""
    file, _, arg = name.partition(":")
    return recipe.finish(recipe.load(str(ROOT / "configs" / f"{file}.py"), arg))


def stored(name: str) -> Path:
    return STORED / f"{name.replace(':', '-')}.json"


def settings(values: Config) -> Any:
    """What differs from the defaults, as JSON values; folders of this machine have a name."""
    text = json.dumps(_changed(values), ensure_ascii=False)
    for folder, told in ((ROOT, "CHECKOUT"), (ROOT.parent / "shared", "SHARED")):
        text = text.replace(str(folder), told)
    return json.loads(text)


def _changed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _changed(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_changed(inner) for inner in value]
    if not dataclasses.is_dataclass(value):
        return to_dict(value)
    found = {}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if field.name == "kind" or inner != _default(field):
            found[field.name] = _changed(inner)
    return found


def _default(field: dataclasses.Field) -> Any:
    made = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if made else field.default


def defaults() -> dict[str, dict[str, Any]]:
    """The default of every setting that has one, by the class it belongs to."""
    classes = [c for c in vars(config).values() if dataclasses.is_dataclass(c)] + [Preprocessing]
    found = {
        c.__name__: {f.name: to_dict(_default(f)) for f in dataclasses.fields(c)} for c in classes
    }
    return json.loads(
        json.dumps(found, default=lambda _: None, sort_keys=True)  # settings without one: null
    )


def update() -> None:
    STORED.mkdir(exist_ok=True)
    for path in STORED.glob("*.json"):
        path.unlink()
    _write(DEFAULTS, defaults())
    for name in names():
        _write(stored(name), settings(load(name)))


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    update()
