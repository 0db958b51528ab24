"""Pictures of any aspect ratio from records to a step and to an evaluation."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from multimodal import config
from multimodal.checks import check
from multimodal.data import array_record
from multimodal.data.patches import stack
from multimodal.data.transforms import fit
from multimodal.errors import UserError
from multimodal.evaluation.embed import Embedder
from multimodal.evaluation.run import evaluate
from multimodal.objectives.contrastive import softmax_loss
from multimodal.parallel.processes import to_global
from multimodal.preprocessing import Preprocessing
from tests.toy import build, replace, toy_config

FLEXIBLE = Preprocessing(image_size=32, max_patches=12, patch_size=8, length=32)
IMAGE = "model__towers__image__"


def make_pictures():
    rng = np.random.default_rng(0)
    sizes = rng.integers(10, 80, (13, 2))
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    records = []
    for i, pixels in enumerate(make_pictures()):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        records.append({"key": str(i), "image": file.getvalue(), "captions": [f"picture {i}"]})
    path = tmp_path_factory.mktemp("records")
    array_record.write(str(path / "all"), records)
    return str(path)


def settings(folder):
    return replace(
        toy_config("dual_encoder"),
        preprocessing=FLEXIBLE,
        data_dir=folder,
        batch_size=8,
        accumulate=2,
        tasks__pairs__data__source=config.ArrayRecords(path="all"),
        **{IMAGE + "max_patches": 12},
    )


def test_steps_and_evaluation(folder):
    run = build(settings(folder), 4, data=2, fsdp=2)
    with jax.set_mesh(run.mesh):
        state = run.initialise()
        step = run.tasks["pairs"].step.lower(run.abstract_state, run.abstract_batch())
        step = step.compile()
    first = jax.device_get(state.params)
    with run.batches("pairs") as stream:
        drawn = next(stream)
    batch = {name: drawn[name] for name in run.abstract_batch()}
    assert len({tuple(grid) for grid in batch["image"]["grid"]}) > 2
    assert run.model_flops() > 0
    state, figures = step(state, to_global(batch, run.mesh))
    params = jax.device_get(state.params)
    outputs = jax.jit(lambda params: run.model.bind(params)(batch))(first)
    scale = outputs["temperature"]["image-text"]["log_scale"]
    wanted = softmax_loss(outputs["image"], outputs["text"], scale)
    np.testing.assert_allclose(figures["loss"], wanted, rtol=1e-5)
    assert 0 < figures["gradient_norm"] < np.inf

    data = config.Data(
        source=config.ArrayRecords(path="all"), fields={"image": "image", "text": "captions"}
    )
    embedder = Embedder(run.model, params, FLEXIBLE, run.mesh, batch_size=5)
    found, examples, broken = embedder.images(data, data_dir=folder)
    fitted = stack([fit(pixels, FLEXIBLE) for pixels in make_pictures()], FLEXIBLE)
    encode = jax.jit(lambda params, x: run.model.bind(params).encode("image", x))
    np.testing.assert_allclose(found, encode(params, fitted), atol=1e-5)
    assert len(examples) == 13 and not broken
    evaluator = config.Retrieval(data=data, batch_size=5)
    result = evaluate(
        evaluator,
        model=run.model,
        params=params,
        preprocessing=FLEXIBLE,
        mesh=run.mesh,
        data_dir=folder,
    )
    assert result.metrics["examples"] == 13 and result.details["images"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preprocessing__max_patches": 9}, "max_patches=12 differs from config.preprocessing"),
        ({"preprocessing__patch_size": 4}, "patch_size=8 differs from config.preprocessing"),
        ({IMAGE + "max_patches": None}, "max_patches=None differs"),
        ({IMAGE + "class_token": True}, "class_token=True: not with"),
        ({IMAGE + "patch_dropout": 0.5}, "patch_dropout=0.5: not with"),
    ],
)
def test_what_does_not_go_together(folder, changes, said):
    check(settings(folder))
    with pytest.raises(UserError, match=said):
        check(replace(settings(folder), **changes))


def test_only_towers_that_are_pooled():
    changes = {"model__image__max_patches": 12, "preprocessing": FLEXIBLE}
    with pytest.raises(UserError, match="model.image.max_patches: this model wants as many"):
        check(replace(toy_config("coca"), **changes))
