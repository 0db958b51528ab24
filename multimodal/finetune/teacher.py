"""A trained model that a run learns from. It is asked before each step, by a program of its own, so
that a step sees what it says as a part of the batch, and cannot change it."""

import dataclasses
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from multimodal.checkpoint.saved import Saved, open_saved
from multimodal.config import Config, Distillation, DualEncoder, entries
from multimodal.data.tokenizers import Tokenizer, describe_tokenizer, load_tokenizer
from multimodal.errors import UserError
from multimodal.finetune.agreement import Meaning, input_differences
from multimodal.models.build import Model, Params, build
from multimodal.objectives.imitation import teacher_key
from multimodal.objectives.objective import Batch
from multimodal.parallel.rules import batch_sharding, parameter_shardings
from multimodal.training.gradients import in_microbatches


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What `settings` name, found and checked; its parameters are read when it is first asked."""

    settings: Distillation
    saved: Saved
    model: Model
    mesh: Mesh
    microbatches: int

    def say(self, batch: Batch) -> Batch:
        """The entries of the batch that the objective finds there, split over devices as it is."""
        return self._say(self._params, self._seen(batch))

    def outputs(self, params: Params, batch: Batch) -> Batch:
        """The same of these parameters, as a pure function."""
        names = self.settings.pair

        def rows(seen: Batch) -> Batch:
            outputs = self.model.bind(params)(seen)
            return {name: outputs[name] for name in names}

        said = in_microbatches(rows, self._seen(batch), self.microbatches)
        scale = params[f"temperature/{'-'.join(names)}/scale"]
        said["log_scale"] = jnp.full(len(said[names[0]]), scale)
        return {teacher_key(self.settings, name): x for name, x in said.items()}

    def _seen(self, batch: Batch) -> Batch:
        named = entries(self.saved.config.model.towers)
        return {named[name]: batch[named[name]] for name in self.settings.pair}

    @cached_property
    def _params(self) -> Params:
        shapes = self.model.shapes()
        placed = parameter_shardings(self.model.axes, shapes, self.mesh)
        return self.saved.params(
            {
                path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed[path])
                for path, x in shapes.items()
            }
        )

    @cached_property
    def _say(self):  # noqa: ANN202
        return jax.jit(self.outputs, out_shardings=batch_sharding(self.mesh))


def find(
    settings: Distillation, config: Config, tokenizer: Tokenizer, mesh: Mesh, where: str
) -> Teacher:
    """The teacher that an objective of the run names. Raises UserError, beginning with `where`,
    when it is not there, has no such pair, or was trained on input that is not the run's."""
    try:
        saved = open_saved(Path(settings.teacher), settings.step)
    except UserError as error:
        raise UserError(f"{where}.teacher: {error}") from error
    then, told = saved.config.model, "-".join(settings.pair)
    if not isinstance(then, DualEncoder) or settings.pair not in then.pairs:
        raise UserError(f"{where}.teacher: {settings.teacher} ({then.kind}) has no pair {told}")
    if settings.features and then.embed != config.model.embed:
        raise UserError(
            f"{where}.features: {settings.teacher} has embed={then.embed} but config.model.embed="
            f"{config.model.embed}; use logits alone, which may differ in width"
        )
    own = saved.preprocessing
    before = describe_tokenizer(load_tokenizer(own.tokenizer, own.pad_id))
    now = Meaning(config.model, config.preprocessing, describe_tokenizer(tokenizer))
    found = input_differences(now, Meaning(then, own, before), set(settings.pair))
    # Each model normalises pictures itself.
    if found := [one for one in found if one.name not in ("mean", "std")]:
        one = found[0]
        raise UserError(
            f"{where}.teacher: {settings.teacher} reads other input than this run: "
            f"{one.where}={one.now!r} but there {one.then!r}"
        )
    model = build(then, own, config.dtype)
    return Teacher(settings, saved, model, mesh, config.accumulate)
