"""The card of an exported model says what the run recorded, and no more."""

import json

from multimodal.report.details import save_facts
from multimodal.report.model_card import model_card
from tests.toy import replace, toy_config


def test_a_card_states_data_recipe_commit_and_results(tmp_path):
    config = replace(toy_config(), steps=20, batch_size=64, seed=3)
    save_facts(tmp_path, {"commit": "0123456789ab", "parameters": "1,234"})
    lines = [
        {"step": 10, "train/loss": 3.0, "eval/retrieval/text_to_image_R@1": 0.5},
        {
            "step": 20,
            "eval/retrieval/text_to_image_R@1": 0.75,
            "eval/retrieval/text_to_image_R@1/low": 0.7,
            "eval/retrieval/text_to_image_R@1/high": 0.8,
            "eval/retrieval/chance/text_to_image_R@1": 0.01,
        },
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    card = model_card(config, 20, tmp_path, "transformers", "```python\nload()\n```")
    assert card.startswith('---\nlibrary_name: "transformers"\npipeline_tag: "zero-shot-image-cl')
    for line in (
        "| commit | 0123456789ab |",
        "| parameters | 1,234 |",
        "| devices | not recorded |",
        "| steps | 20 of 20 |",
        "| batch size | 64 |",
        "| seed | 3 |",
        "| retrieval/text_to_image_R@1 | 75.0 % | 70.0 to 80.0 | 1.0 % |",
        "load()",
    ):
        assert line in card
    assert "| pairs | scenes" in card and "contrastive" in card
    earlier = model_card(config, 10, tmp_path, "transformers", "")
    assert "| retrieval/text_to_image_R@1 | 50.0 % |  |  |" in earlier and "75.0" not in earlier


def test_what_was_not_recorded_is_said_so(tmp_path):
    card = model_card(toy_config(), 5, tmp_path, "transformers", "")
    assert "| commit | not recorded |" in card and "| began with | random parameters |" in card
    assert "The run measured nothing at step 5." in card


def test_what_was_imported_was_not_trained_here(tmp_path):
    config = replace(toy_config(), tasks={}, name="clip-vit-base-patch32")
    card = model_card(config, 0, tmp_path, "transformers", "")
    assert ", imported from clip-vit-base-patch32, not trained here and exported" in card
    assert "## Data\n\nNot recorded." in card
    for wrong in ("trained with", "Recipe", "random parameters", "batch size", "optimiser"):
        assert wrong not in card


def test_a_mixed_model_says_of_what(tmp_path):
    told = "interpolated by 0.25 from runs/before to runs/after"
    save_facts(tmp_path, {"interpolated": told})
    card = model_card(toy_config(), 5, tmp_path, "transformers", "")
    assert f"trained with multimodal, {told} and exported after step 5." in card
    assert f"| began with | {told} |" in card and "random parameters" not in card
