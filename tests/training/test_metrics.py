"""metrics.jsonl: one valid JSON object a line, whatever the figures and however a run ended."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.training.metrics import MetricWriter, truncate_after


def strictly(text):
    """JSON as the standard has it, which knows no NaN."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def read(folder):
    return [strictly(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_holds_the_step_and_plain_numbers(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(3, {"train/loss": jnp.float32(0.5), "eval/test/accuracy": np.float64(0.25)})
    writer.write(6, {"train/loss": 1, "train/learning_rate": jnp.bfloat16(2.0)})
    writer.close()
    assert read(tmp_path) == [
        {"step": 3, "train/loss": 0.5, "eval/test/accuracy": 0.25},
        {"step": 6, "train/loss": 1.0, "train/learning_rate": 2.0},
    ]
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(tmp_path, value):
    writer = MetricWriter(tmp_path)
    writer.write(1, {"train/loss": jnp.float32(value), "train/gradient_norm": 2.0})
    writer.close()
    assert read(tmp_path) == [{"step": 1, "train/loss": None, "train/gradient_norm": 2.0}]


def test_a_line_is_on_disk_at_once(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(1, {"train/loss": 2.0})
    assert read(tmp_path) == [{"step": 1, "train/loss": 2.0}]
    writer.close()


def test_other_processes_write_nothing(tmp_path):
    writer = MetricWriter(tmp_path, enabled=False)
    writer.write(1, {"train/loss": 2.0})
    writer.close()
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_drops_what_it_will_repeat(tmp_path):
    path = tmp_path / "metrics.jsonl"
    kept = ['{"step": 2, "train/loss": 1.5}', '{"step": 4, "eval/x/accuracy": null}']
    later = ['{"step": 5, "train/loss": 1.0}', '{"step": 12, "tra']
    path.write_text("\n".join(kept + later))
    truncate_after(path, 4)
    assert path.read_text() == "\n".join(kept) + "\n"
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    MetricWriter(tmp_path).write(5, {"train/loss": 1.0})
    assert [line["step"] for line in read(tmp_path)] == [2, 4, 5]


@pytest.mark.parametrize("torn", ["", "nonsense", "12", '"step"', '{"loss": 1}', "\x00\x00"])
def test_lines_that_say_nothing_are_dropped(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + torn)
    truncate_after(path, 9)
    assert path.read_text() == '{"step": 1}\n'


def test_nothing_to_drop(tmp_path):
    truncate_after(tmp_path / "metrics.jsonl", 3)
    assert not list(tmp_path.iterdir())
