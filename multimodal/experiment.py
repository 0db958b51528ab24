"""From a Config to everything that a run needs, checked before anything is compiled."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from multimodal import config as settings
from multimodal.config import Config
from multimodal.data.patches import stack
from multimodal.data.pipeline import Batches, batches
from multimodal.data.sources import open_data
from multimodal.data.tokenizers import Tokenizer, describe_tokenizer, load_tokenizer
from multimodal.errors import UserError
from multimodal.finetune import lora, teacher
from multimodal.finetune.agreement import Meaning
from multimodal.finetune.start import Beginning, find
from multimodal.finetune.teacher import Teacher
from multimodal.models.build import Model, Params
from multimodal.models.build import build as build_model
from multimodal.objectives.build import build as build_objectives
from multimodal.objectives.objective import Objective, Vocabulary
from multimodal.parallel.gather import Gather
from multimodal.parallel.mesh import make_mesh
from multimodal.parallel.processes import batch_part
from multimodal.parallel.rules import batch_sharding, placement_table
from multimodal.training.flops import count_flops, training_flops
from multimodal.training.optimizer import locked_layers, make_optimizer, trainable
from multimodal.training.schedule import make_schedule
from multimodal.training.state import TrainState, initialise, shardings, split
from multimodal.training.step import StepSettings, make_step, prepare, teach


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of step. Each of `steps` is jitted, (state, device batch) -> (state, figures), with
    the step of the run that it is first taken at: more than one where objectives begin later."""

    data: settings.Data
    objectives: dict[str, Objective]
    weight: float
    steps: tuple[tuple[int, Callable], ...]
    begins: dict[str, int]
    teachers: tuple[Teacher, ...] = ()

    def taught(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The device batch with what trained teachers say of it."""
        return batch | {key: x for one in self.teachers for key, x in one.say(batch).items()}

    def first_of(self, number: int) -> int:
        """The first step that is the same as step `number` of the run, counted from 0."""
        return [first for first, _ in self.steps if first <= number][-1]

    def step_at(self, number: int) -> Callable:
        """What the step `number` of the run does."""
        return dict(self.steps)[self.first_of(number)]

    def objectives_at(self, number: int) -> dict[str, Objective]:
        """Those that have begun at step `number`."""
        return {name: o for name, o in self.objectives.items() if self.begins[name] <= number}

    @property
    def step(self) -> Callable:
        """The step with all objectives."""
        return self.steps[-1][1]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run that has been built but not begun."""

    config: Config
    mesh: Mesh
    model: Model
    tokenizer: Tokenizer
    tasks: dict[str, Task]
    initialise: Callable[[], TrainState]
    shardings: TrainState
    trained: frozenset[str]

    @property
    def data_dir(self) -> str:
        return data_dir(self.config)

    @cached_property
    def abstract_state(self) -> TrainState:
        """Shape, dtype and sharding of every leaf of the state."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            jax.eval_shape(self.initialise),
            self.shardings,
        )

    def abstract_batch(self, task: str | None = None) -> dict[str, Any]:
        """What a step of a task (None: the first) is given: shapes, dtypes and shardings of a
        global batch."""
        size, p = self.config.batch_size, self.config.preprocessing
        chosen = self.tasks[task or next(iter(self.tasks))]
        several = (chosen.data.texts,) if chosen.data.texts > 1 else ()
        one = {
            "image": stack([None], p),
            "text": np.zeros((1, *several, p.length), np.int32),
            "label": np.zeros(1, np.int32),
            "valid": np.zeros(1, np.bool_),
        }
        for _, part in settings.parts(self.config.model):
            if isinstance(part, settings.Precomputed):
                one["image_features"] = np.zeros((1, part.width), np.float32)
        fields = chosen.data.fields
        sharding = batch_sharding(self.mesh)

        def whole(entries: dict[str, Any]) -> dict[str, Any]:
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype, sharding=sharding),
                entries,
            )

        batch = whole({name: entry for name, entry in one.items() if name in (*fields, "valid")})
        for asked in chosen.teachers:
            with jax.set_mesh(self.mesh):
                batch |= whole(jax.eval_shape(asked.outputs, asked.model.shapes(), batch))
        return batch

    def batches(self, task: str, start_batch: int = 0) -> Batches:
        """This process's host batches of a task from number `start_batch` on."""
        part, parts = batch_part(self.mesh)
        with _said_of(f"config.tasks.{task}"):
            return batches(
                self.tasks[task].data,
                self.config.preprocessing,
                batch_size=self.config.batch_size,
                seed=_task_seed(self.config.seed, list(self.tasks).index(task)),
                start_batch=start_batch,
                process_index=part,
                process_count=parts,
                classes=getattr(self.config.model, "classes", None),
                data_dir=self.data_dir,
            )

    def check_evaluators(self) -> None:
        """Opens the data of every evaluator, so that what is wrong is known at the start."""
        for name, evaluator in self.config.evaluators.items():
            with _said_of(f"config.evaluators.{name}"):
                for data in filter(None, (evaluator.data, getattr(evaluator, "train", None))):
                    open_data(data, self.data_dir)

    def beginning(self) -> Beginning | None:
        """The checkpoint that a new run begins with, checked. Raises UserError."""
        if self.config.start is None:
            return None
        p, told = self.config.preprocessing, describe_tokenizer(self.tokenizer)
        shapes = self.model.shapes()
        plain = {path: x for path, x in shapes.items() if not path.startswith(lora.PREFIX)}
        now = Meaning(self.config.model, p, told)
        return find(self.config.start, now, plain, self.tokenizer)

    def meta(self, positions: dict[str, int]) -> dict[str, Any]:
        """What a checkpoint keeps beside the state; `positions` counts the steps of each task."""
        return {
            "positions": dict(positions),
            "config": settings.to_dict(self.config),
            "preprocessing": settings.to_dict(self.config.preprocessing),
            "tokenizer": describe_tokenizer(self.tokenizer),
            "versions": {"jax": jax.__version__},
        }

    def placement(self) -> str:
        """The printed table of where each parameter lives."""
        return placement_table(self.model.shapes(), self.shardings.params)

    @property
    def parameter_count(self) -> int:
        return sum(math.prod(leaf.shape) for leaf in self.model.shapes().values())

    @property
    def trained_count(self) -> int:
        """Without the layers that stay as they are."""
        shapes, _ = split(self.model.shapes(), self.trained)
        locked = locked_layers(self.config.optimizer, shapes, self.model.stacked)
        return sum(math.prod(x.shape) for x in shapes.values()) - sum(
            n * math.prod(shapes[path].shape[1:]) for path, n in locked.items()
        )

    def model_flops(self, task: str | None = None, number: int | None = None) -> int:
        """What step `number` (None: the last) of a task (None: the first) has to compute, however
        it does so: three times the forward pass of what is trained, once that of what is frozen
        and of the teacher, and nothing twice."""
        task = task or next(iter(self.tasks))
        number = self.config.steps if number is None else number
        return self._flops[task, self.tasks[task].first_of(number)]

    @cached_property
    def _flops(self) -> dict[tuple[str, int], int]:
        shapes, key = self.model.shapes(), jax.eval_shape(lambda: jax.random.key(0))
        trained, frozen = split(shapes, self.trained)
        # Kernels of attention compute whole tiles, and the scores more than once.
        plain = settings.with_stacks(self.config.model, attention="xla")
        model = _model(dataclasses.replace(self.config, model=plain))

        def losses(trained, frozen, average, batch, key, objectives):  # noqa: ANN001, ANN202
            batch = prepare(objectives, batch, key)
            taught, constants = teach(model, objectives, average, batch, 1)
            outputs = model.bind(trained | frozen)(batch, key) | constants
            return [o.loss(outputs, batch | taught, batch | taught)[0] for o in objectives.values()]

        def asked(task: Task, batch: dict[str, Any]) -> int:
            return sum(count_flops(t.outputs, t.model.shapes(), batch) for t in task.teachers)

        return {
            (name, first): training_flops(
                partial(losses, objectives=task.objectives_at(first)),
                trained,
                frozen,
                shapes,
                batch := self.abstract_batch(name),
                key,
            )
            + asked(task, batch)
            for name, task in self.tasks.items()
            for first, _ in task.steps
        }


def build(
    config: Config, devices: list | None = None, tokenizer: Tokenizer | None = None
) -> Experiment:
    """Builds and checks a run on `devices` (default: all), with `tokenizer` in place of the one
    that the config names. Raises UserError."""
    shape = dataclasses.asdict(config.mesh)
    mesh = make_mesh(shape, devices, slices=shape.pop("slices"))
    if tokenizer is None:
        tokenizer = load_tokenizer(config.preprocessing.tokenizer, config.preprocessing.pad_id)
    _check_mesh(config, mesh)
    _check_vocabulary(config.model, tokenizer)
    model, rules = _model(config), config.optimizer
    if config.lora is not None:
        rules = lora.frozen_otherwise(rules)
    shapes = model.shapes()
    paths = trainable(rules, shapes, model.stacked)
    trained, _ = split(shapes, paths)
    optimizer = make_optimizer(rules, config.steps, trained, model.stacked & paths)
    over = ("fsdp",) if config.gather == "compiler" else ("fsdp", "data")
    offload = config.optimizer.offload
    placed = shardings(model, optimizer, paths, mesh, config.ema is not None, over, offload)
    fetched = jax.tree.map(lambda s: s.with_memory_kind("device"), placed.opt_state)
    gather = None
    if config.gather != "compiler" and mesh.size > 1:
        gather = Gather(config.dtype, config.reduce, keep=config.gather == "step")
    step_settings = StepSettings(
        optimizer,
        make_schedule(config.optimizer, config.steps),
        paths,
        config.seed,
        config.accumulate,
        config.ema,
        gather,
        {path: sharding.spec for path, sharding in placed.params.items()},
        locked_layers(rules, trained, model.stacked),
        fetched if offload else None,
    )
    special = (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.mask_id)
    p = config.preprocessing
    vocabulary = Vocabulary(
        tokenizer.vocab_size, tokenizer.pad_id, tokenizer.mask_id, special, p.mean, p.std
    )
    tasks = {}
    for name, task in config.tasks.items():
        objectives = build_objectives(task.objectives, vocabulary)
        begins = {
            key: round(getattr(s, "begin", 0.0) * config.steps)
            for key, s in task.objectives.items()
        }
        steps = []
        for first in sorted(set(begins.values())):
            now = {key: o for key, o in objectives.items() if begins[key] <= first}
            later = {key: o for key, o in objectives.items() if key not in now}
            step = make_step(model, now, step_settings, later)
            jitted = jax.jit(step, donate_argnums=0, out_shardings=(placed, None))
            steps.append((first, jitted))
        teachers = tuple(
            teacher.find(s, config, tokenizer, mesh, f"config.tasks.{name}.objectives.{key}")
            for key, s in task.objectives.items()
            if isinstance(s, settings.Distillation)
        )
        tasks[name] = Task(task.data, objectives, task.weight, tuple(steps), begins, teachers)

    def new_state() -> TrainState:
        return initialise(model, optimizer, paths, config.seed, config.ema is not None)

    init = jax.jit(new_state, out_shardings=placed)
    experiment = Experiment(config, mesh, model, tokenizer, tasks, init, placed, paths)
    _check_reads(config, experiment)
    return experiment


def _model(config: Config) -> Model:
    model = build_model(config.model, config.preprocessing, config.dtype)
    return model if config.lora is None else lora.adapt(model, config.lora)


def data_dir(config: Config) -> str:
    """Where data lie: the config's folder, else MULTIMODAL_DATA, else `data` here."""
    return config.data_dir or os.environ.get("MULTIMODAL_DATA", "data")


def _task_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


@contextlib.contextmanager
def _said_of(where: str) -> Iterator[None]:
    """Errors inside say which setting they belong to."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _check_reads(config: Config, experiment: Experiment) -> None:
    """Every objective finds what it reads among the outputs of the model."""

    for task, settings_of in config.tasks.items():
        objectives = experiment.tasks[task].objectives

        def forward(params: Params, batch: dict, objectives: dict = objectives) -> dict:
            batch = prepare(objectives, batch, jax.random.key(0))
            return experiment.model.bind(params)(batch)

        batch = experiment.abstract_batch(task)
        with jax.set_mesh(experiment.mesh):
            given = jax.eval_shape(forward, experiment.model.shapes(), batch)
        for name, objective in objectives.items():
            for entry in objective.reads:
                if entry not in given:
                    raise UserError(
                        f"config.tasks.{task}.objectives.{name}: "
                        f"{settings_of.objectives[name].kind} reads {entry!r}, which config.model "
                        f"({config.model.kind}) does not give; it gives {', '.join(sorted(given))}"
                    )


def _check_mesh(config: Config, mesh: Mesh) -> None:
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    micro = config.batch_size // config.accumulate
    if micro % shards:
        raise UserError(
            f"config.batch_size={config.batch_size} / config.accumulate={config.accumulate} = "
            f"{micro} examples do not divide over data x fsdp = {shards} devices"
        )
    tensor = mesh.shape["tensor"]
    for where, part in settings.parts(config.model):
        if isinstance(part, settings.Transformer) and part.heads % tensor:
            raise UserError(
                f"{where}.heads={part.heads} do not divide over config.mesh.tensor={tensor}"
            )
        platform = mesh.devices.flat[0].platform
        kernel = getattr(part, "attention", None)
        needs = {"cudnn": ("gpu", "an NVIDIA GPU"), "splash": ("tpu", "a TPU")}.get(kernel)
        if needs and platform != needs[0]:
            raise UserError(f"{where}.attention={kernel!r} needs {needs[1]}, not a {platform}")


def _check_vocabulary(model: settings.Model, tokenizer: Tokenizer) -> None:
    for where, part in settings.parts(model):
        size = getattr(part, "vocab_size", tokenizer.vocab_size)
        if size < tokenizer.vocab_size:
            raise UserError(
                f"{where}.vocab_size={size}: the tokenizer has {tokenizer.vocab_size} tokens"
            )
        for name in _ids_read(part, model):
            wanted = getattr(tokenizer, name)
            if getattr(part, name, wanted) != wanted:
                raise UserError(
                    f"{where}.{name}={getattr(part, name)}: the tokenizer's is {wanted}"
                )


def _ids_read(part: Any, model: settings.Model) -> list[str]:
    """Which of a part's token ids decide anything."""
    if not isinstance(part, settings.TextTower):
        return ["pad_id", "end_id"]
    masks = part.mask_padding or isinstance(model, settings.CoCa)
    return ["pad_id"] * masks + ["end_id"] * (part.pooler == "end")
