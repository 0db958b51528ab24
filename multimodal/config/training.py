"""How parameters change, where they live, and when they are saved."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """Learning-rate multiplier for parameters whose path matches `pattern`; None freezes them, but
    for the last `unlocked` layers of stacks among them."""

    pattern: str
    multiplier: float | None
    unlocked: int = 0


@dataclass(frozen=True)
class Optimizer:
    """How a step changes the parameters; `training/optimizer.py` has the formulas and their order.

    `adafactor` is big_vision's form: `beta2` caps its second-moment decay, `clip_update` limits the
    root mean square of each layer's update (off there), `eps` is AdamW's alone. Lion's authors use
    `beta2` 0.99. The decay of a step is learning rate * `weight_decay` * parameter; paths that a
    pattern of `no_decay` matches have none. The first matching rule sets a path's multiplier.
    With `layer_decay` d, layer i of a stack of n, counted from 0, moves d^(n - i) times as far,
    and what comes before the stack d^(n + 1) times (BEiT, Bao et al. 2022).
    `offload` keeps moments in the host's memory between updates.
    """

    name: Literal["adamw", "adafactor", "lion"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "rsqrt", "constant"] = "cosine"
    warmup_steps: int = 0
    cooldown_steps: int = 0
    final_fraction: float = 0.0
    rsqrt_timescale: int = 10000
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = (".*bias$", ".*scale$", ".*(position|token|probe|queries)$")
    clip_norm: float | None = 1.0
    clip_update: float | None = None
    offload: bool = False
    rules: tuple[Rule, ...] = ()
    layer_decay: float | None = None


@dataclass(frozen=True)
class Lora:
    """Low-rank updates in place of whole ones (Hu et al. 2022): each kernel W whose whole path one
    of `patterns` matches stays as it is, and W + alpha / rank * A B is used. A begins at random and
    B with zeros; beside them only parameters that a rule of the optimizer gives a multiplier train.
    """

    patterns: tuple[str, ...]
    rank: int = 8
    alpha: float = 8.0


@dataclass(frozen=True)
class MeshShape:
    """Devices along each axis; -1 takes what is left. `slices` are joined along `data`."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1
    slices: int = 1


@dataclass(frozen=True)
class Checkpoints:
    """A save every `every` steps; the newest `keep` stay; every `keep_every`-th for good."""

    every: int = 1000
    keep: int = 2
    keep_every: int | None = None
