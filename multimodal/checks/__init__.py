"""What goes together and what does not: the checks between settings, before anything is built."""

from multimodal.checks.evaluator import check_evaluator
from multimodal.checks.model import check_model
from multimodal.checks.require import positive, require, share
from multimodal.checks.task import check_task
from multimodal.config import Config, Rule


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
    for number, rule in enumerate(config.optimizer.rules):
        _check_rule(rule, f"config.optimizer.rules[{number}]")
    decay = config.optimizer.layer_decay
    require(
        decay is None or 0 < decay <= 1, f"config.optimizer.layer_decay={decay}: above 0, up to 1"
    )
    if config.lora is not None:
        positive(config.lora, "config.lora", "rank", "alpha")
        require(
            config.gather == "compiler",
            f"config.gather={config.gather!r}: only 'compiler' makes the products of config.lora",
        )
    check_model(config)
    for name, task in config.tasks.items():
        check_task(task, config, f"config.tasks.{name}")
    for name, evaluator in config.evaluators.items():
        check_evaluator(evaluator, name, config.model, f"config.evaluators.{name}")


def _check_rule(rule: Rule, where: str) -> None:
    require(rule.unlocked >= 0, f"{where}.unlocked={rule.unlocked}: a number of layers")
    require(
        not rule.unlocked or rule.multiplier is None,
        f"{where}.unlocked={rule.unlocked} is for what is frozen; set {where}.multiplier=None",
    )
