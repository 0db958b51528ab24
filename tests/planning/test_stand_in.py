"""Every recipe can be built without the tokenizer that it names."""

import pytest

from multimodal import experiment
from multimodal.planning.stand_in import stand_in
from tests.configs import recipes
from tests.toy import toy_config


@pytest.mark.parametrize("name", recipes.names())
def test_the_stand_in_is_what_the_model_asks_for(name):
    config = recipes.load(name)
    experiment._check_vocabulary(config.model, stand_in(config))


def test_it_takes_the_place_of_a_file_that_is_not_there():
    config = recipes.load("clip_b32")
    assert stand_in(config).vocab_size == 49408
    assert stand_in(config).pad_id == stand_in(config).end_id == 49407
    toy = stand_in(toy_config())
    assert (toy.encode_batch(["a", "b"], 5) == toy.pad_id).all()
    assert (toy.decode([1]), toy.pieces("a")) == ("", [])
