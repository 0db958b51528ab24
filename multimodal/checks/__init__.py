"""What goes together and what does not: the checks between settings, before anything is built."""

from multimodal.checks.evaluator import check_evaluator
from multimodal.checks.model import check_model
from multimodal.checks.require import positive, require, share
from multimodal.checks.task import check_task
from multimodal.config import Config


def check(config: Config) -> None:
    """Refuses combinations of settings that cannot work. Raises UserError naming both sides.

    A run without tasks can be read, not trained: what other people trained."""
    positive(config, "config", "steps", "batch_size", "accumulate", "log_every")
    positive(config.checkpoints, "config.checkpoints", "every", "keep", "keep_every")
    require(
        config.batch_size % config.accumulate == 0,
        f"config.batch_size={config.batch_size} does not divide into "
        f"config.accumulate={config.accumulate} microbatches",
    )
    if config.ema is not None:
        share(config, "config", "ema")
    check_model(config)
    for name, task in config.tasks.items():
        check_task(task, config, f"config.tasks.{name}")
    for name, evaluator in config.evaluators.items():
        check_evaluator(evaluator, name, config.model, f"config.evaluators.{name}")
