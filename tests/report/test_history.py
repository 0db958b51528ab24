"""Reading `metrics.jsonl` back."""

import json

from multimodal.report.history import evaluations, read_history


def test_a_resumed_run_counts_each_step_once_and_torn_lines_are_passed_over(tmp_path):
    rows = [{"step": s, "train/loss": 1.0 * s, "note": "text", "flag": True} for s in (1, 2, 3)]
    rows += [{"step": s, "train/loss": 10.0 * s} for s in (2, 3, 4)]
    lines = [json.dumps(r) for r in rows] + ["[1]", '{"train/loss": 1}', '{"step": 5, "tr']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_history(tmp_path) == {"train/loss": [(1, 1.0), (2, 20.0), (3, 30.0), (4, 40.0)]}


def test_the_newest_evaluation_of_each_evaluator():
    history = {
        "eval/a/accuracy": [(1, 0.1), (2, 0.2)],
        "eval/a/dropped": [(1, 0.3)],
        "eval/b/R@1/by=2": [(1, 0.4)],
        "train/loss": [(3, 1.0)],
    }
    assert evaluations(history) == {"a": {"accuracy": 0.2}, "b": {"R@1/by=2": 0.4}}
