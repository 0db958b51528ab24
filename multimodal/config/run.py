"""The settings of a whole run."""

from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, Literal

from multimodal.config.data import Data
from multimodal.config.evaluator import Evaluator
from multimodal.config.model import Model, Transformer
from multimodal.config.objective import Objective
from multimodal.config.training import Checkpoints, Lora, MeshShape, Optimizer
from multimodal.preprocessing import Preprocessing


@dataclass(frozen=True)
class Task:
    """What one kind of step trains on and which signals it adds up over one forward pass."""

    data: Data
    objectives: dict[str, Objective]
    weight: float = 1.0


@dataclass(frozen=True)
class Start:
    """Another run's checkpoint, whose parameters a new run begins with.

    `checkpoint` is its run folder, or one checkpoint's own folder; `step` None: the newest. Loaded
    are the parameters here whose whole path a pattern of `only` matches, from the same path there,
    or the one that `rename` gives: pairs of a pattern of paths here and the path there, `\\1` for a
    group; the first that matches decides.
    What was trained on other input or as another model is refused, but for the settings that
    `accept` names, such as `image_size`. Towers' positions are resampled to another size or length,
    and rows of another vocabulary go where their tokens are.
    """

    checkpoint: str
    step: int | None = None
    only: tuple[str, ...] = (".*",)
    rename: tuple[tuple[str, str], ...] = ()
    accept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """One run. `accumulate` splits the batch into microbatches that share one loss.

    `gather` says how parameters come to where they are used. "compiler": they live as the mesh's
    fsdp axis splits them, and the compiler sees to the rest. "step" and "layer": they and the
    optimiser's state are split over all devices with examples of their own, and gathered in `dtype`
    once a step, or layer by layer in the forward pass and again in the backward pass, which takes
    less memory and more traffic; gradients are added up in `reduce`.
    """

    name: str
    model: Model
    tasks: dict[str, Task]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    optimizer: Optimizer = field(default_factory=Optimizer)
    mesh: MeshShape = field(default_factory=MeshShape)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    evaluators: dict[str, Evaluator] = field(default_factory=dict)
    seed: int = 0
    steps: int = 1000
    batch_size: int = 256
    accumulate: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    gather: Literal["compiler", "step", "layer"] = "compiler"
    reduce: Literal["float32", "bfloat16"] = "float32"
    ema: float | None = None
    log_every: int = 50
    profile: bool = False
    data_dir: str = ""
    start: Start | None = None
    lora: Lora | None = None


def with_stacks(part: Any, **changes: Any) -> Any:
    """A model's settings with these changes to every Transformer in it."""
    if isinstance(part, Transformer):
        return replace(part, **changes)
    if isinstance(part, dict):
        return {name: with_stacks(inner, **changes) for name, inner in part.items()}
    if is_dataclass(part):
        inner = {name: with_stacks(value, **changes) for name, value in vars(part).items()}
        return replace(part, **inner)
    return part


def parts(part: Any, path: str = "config.model") -> list[tuple[str, Any]]:
    """The dataclasses that a model consists of with their dotted paths, outermost first."""
    found = [(path, part)]
    for name, value in vars(part).items():
        if isinstance(value, dict):
            for key, inner in value.items():
                found += parts(inner, f"{path}.{name}.{key}")
        elif is_dataclass(value):
            found += parts(value, f"{path}.{name}")
    return found
