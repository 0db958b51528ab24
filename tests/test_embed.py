"""Features in a file are those that the tower gives, and a run of them is trained and evaluated."""

import dataclasses

import jax
import numpy as np
import pytest

from multimodal import config
from multimodal.checks import check
from multimodal.data.array_record import ArrayRecordSource
from multimodal.data.pipeline import evaluation_batches
from multimodal.embed import data_at, embed
from multimodal.errors import UserError
from multimodal.evaluation.run import evaluate
from multimodal.parallel.processes import to_global
from tests.toy import build, replace, toy_config


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A run, its parameters, its data, and their features in a file, of 8 devices."""
    root = tmp_path_factory.mktemp("embed")
    run = build(replace(toy_config(), data_dir=str(root)), 8, data=2, fsdp=4)
    data = config.Data(
        config.Scenes(train=64),
        fields={"image": "image", "text": "captions", "label": "num_objects"},
    )
    params = jax.device_put(run.model.init(jax.random.key(0)), run.shardings.params)
    out, count, broken = embed(run, params, data, root / "features.array_record", batch_size=20)
    assert (count, broken) == (64, 0)
    return run, params, data, out


def test_each_record_holds_what_the_tower_pools(embedded):
    run, params, data, out = embedded
    source = ArrayRecordSource(str(out))
    images = dataclasses.replace(data, fields={"image": "image", "text": "captions"})
    with evaluation_batches(
        images, run.config.preprocessing, batch_size=64, extra=("num_objects",),
        data_dir=run.data_dir,
    ) as batches:  # fmt: skip
        batch = next(batches)
    tower = jax.jit(lambda p, x: run.model.bind(p).towers["image"](x)["pooled"])
    want = tower(jax.device_get(params), batch["image"])
    got = np.stack([np.frombuffer(source[i]["image_features"], np.float32) for i in range(64)])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.abs(want).max())
    for i in (0, 1, 63):
        assert source[i]["key"] == batch["keys"][i]
        assert source[i]["text"] == batch["texts"][i]
        assert source[i]["label"] == batch["num_objects"][i]


def test_a_run_reads_the_features(embedded):
    run, _, _, out = embedded
    fields = {"image_features": "image_features", "text": "text"}
    data = config.Data(config.ArrayRecords(str(out)), fields=fields)
    settings = replace(
        run.config,
        model__towers__image=config.Precomputed(64, projection="linear"),
        tasks__pairs__data=data,
        evaluators={"retrieval": config.Retrieval(data)},
    )
    check(settings)
    cheap = build(settings, 4, data=4)
    with cheap.batches("pairs") as batches:
        drawn = next(batches)
    batch = {name: drawn[name] for name in cheap.abstract_batch()}
    assert batch.keys() == {"image_features", "text", "valid"}
    step = cheap.tasks["pairs"].step
    state, figures = jax.eval_shape(step, cheap.abstract_state, to_global(batch, cheap.mesh))
    assert state.params.keys() == cheap.model.shapes().keys() and figures["loss"].shape == ()
    result = evaluate(
        cheap.config.evaluators["retrieval"],
        model=cheap.model,
        params=cheap.model.init(jax.random.key(0)),
        preprocessing=cheap.config.preprocessing,
        mesh=cheap.mesh,
    )
    assert result.metrics["examples"] == 64


def test_what_cannot_be_embedded_is_told(embedded, tmp_path):
    run, params, data, out = embedded
    with pytest.raises(UserError, match="no field of pictures"):
        data_at(str(out))
    with pytest.raises(UserError, match="write NAME=FIELD"):
        data_at(str(out), "picture=jpg")
    settings = replace(run.config, model=toy_config("prefix_lm").model)
    other = dataclasses.replace(run, config=settings)
    with pytest.raises(UserError, match="prefix_lm has no image tower"):
        embed(other, params, data, tmp_path / "x.array_record", 8)
