"""What a page knows of its run."""

import jax

from multimodal.report import details


def test_newer_details_replace_older_ones(tmp_path):
    details.save_facts(tmp_path, {"parameters": "1"})
    details.save_details(tmp_path, "a", 1, {"kind": "zero_shot"})
    details.save_details(tmp_path, "a", 2, {"kind": "retrieval"})
    details.save_facts(tmp_path, {"commit": "x"})
    assert details.load(tmp_path) == {
        "facts": {"parameters": "1", "commit": "x"},
        "evaluations": {"a": {"step": 2, "kind": "retrieval"}},
    }
    assert [p.name for p in tmp_path.iterdir()] == [details.FILE]


def test_a_run_describes_itself():
    facts = details.describe(1234567)
    assert facts["parameters"] == "1,234,567"
    assert facts["devices"] == f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    assert jax.__version__ in facts["versions"]
    assert all(isinstance(value, str) and value for value in facts.values())
