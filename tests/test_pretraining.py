"""Settings that recipes share."""

import json

import pytest

from multimodal import recipe
from multimodal.config import to_dict
from multimodal.errors import UserError
from multimodal.pretraining import continued
from tests.toy import CONFIGS, replace, toy_config


@pytest.mark.parametrize("tokenizer", ["bytes", "/gone/tokenizer.json"])
def test_a_run_goes_on_as_it_was_with_its_own_tokenizer(tokenizer, tmp_path):
    saved = replace(toy_config(), preprocessing__tokenizer=tokenizer, optimizer__beta1=0.5)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(saved)))
    values = continued(str(tmp_path))
    assert values.keys() == {"model", "preprocessing", "start"}
    config = recipe.finish(recipe.resolve(to_dict(toy_config()) | values))
    own = "bytes" if tokenizer == "bytes" else str(tmp_path)
    assert config.model == saved.model
    assert config.preprocessing == replace(saved, preprocessing__tokenizer=own).preprocessing
    assert config.start.checkpoint == str(tmp_path) and config.optimizer.beta1 == 0.9


def test_no_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="start=.*nothing: no run folder"):
        continued(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="start=.*nothing: no run folder"):
        recipe.load(str(CONFIGS / "finetune.py"), f"start={tmp_path}/nothing")


def test_the_recipe_of_fine_tuning_is_short():
    assert len((CONFIGS / "finetune.py").read_text().splitlines()) <= 60
