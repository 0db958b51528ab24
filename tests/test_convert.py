"""The import command: a folder of other people's becomes a run folder that everything reads."""

import json
import re
import socket
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from multimodal import config, convert
from multimodal.convert import import_checkpoint, main
from multimodal.errors import UserError
from multimodal.evaluate import restore
from multimodal.experiment import build
from multimodal.interop import SETTINGS, export_weights
from multimodal.interop.convert import origins
from multimodal.models.build import build as build_model
from tests.commands import finish, start
from tests.goldens.agreement import highest
from tests.goldens.golden import load_golden
from tests.interop.folders import CLIP, GOLDENS, golden_folder, random_clip
from tests.toy import replace, toy_config

CLOSE = 1e-5


def outputs(workdir, batch):
    """What the run's model makes of a batch, as the evaluate command reads it."""
    experiment, params, step = restore(workdir)
    assert step == 0
    params = jax.device_get(params)
    with highest():
        return jax.device_get(jax.jit(lambda p: experiment.model.bind(p)(batch))(params))


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_folders_give_the_reference_embeddings(name, tmp_path, capsys):
    golden = load_golden(name)
    import_checkpoint(golden_folder(tmp_path / "there", name, golden), tmp_path / "run")
    assert "parameters here" in capsys.readouterr().out
    x, y = golden.inputs, golden.outputs
    if name == "bert_pretrain":
        found = outputs(
            tmp_path / "run", {"text": x["input_ids"], "text_types": x["token_type_ids"]}
        )
        pairs = {"word_logits": "prediction_logits", "match_logits": "seq_relationship_logits"}
    elif name == "vit":
        found = outputs(tmp_path / "run", {"image": x["pixel_values"].transpose(0, 2, 3, 1)})
        length = np.linalg.norm(y["logits"], axis=-1, keepdims=True)
        found = {"image": found["image"] * length}  # of unit length here
        pairs = {"image": "logits"}
    else:
        image = {"patches": x["pixel_values"], "grid": x.get("spatial_shapes")}
        if name != "siglip2_naflex":
            image = x["pixel_values"].transpose(0, 2, 3, 1)
        found = outputs(tmp_path / "run", {"image": image, "text": x["input_ids"]})
        pairs = {"image": "image_embeds", "text": "text_embeds"}
    for ours, theirs in pairs.items():
        np.testing.assert_allclose(found[ours], y[theirs], rtol=0, atol=CLOSE, err_msg=ours)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    root = tmp_path_factory.mktemp("imported")
    import_checkpoint(random_clip(root / "there"), root / "run")
    return root / "run"


def test_an_imported_run_is_whole_and_alone(imported, tmp_path):
    told = json.loads((imported / "config.json").read_text())
    assert told["tasks"] == {} and told["preprocessing"]["resize"] == "crop"
    checkpoint = imported / "checkpoints" / "00000000"
    copy = tmp_path / "00000000"
    copy.symlink_to(checkpoint)
    experiment, params, _ = restore(copy)
    assert experiment.tokenizer.vocab_size == 40
    assert experiment.mesh.size == 8 and params.keys() == experiment.model.shapes().keys()


def starting(imported, **changes):
    """A run that begins with the imported one, from its own settings."""
    told = json.loads((imported / "config.json").read_text())
    told["preprocessing"]["tokenizer"] = str(imported / "tokenizer.json")
    mine = toy_config()
    tasks = {"pairs": mine.tasks["pairs"]}
    told = config.from_dict(config.Config, told)
    run = replace(told, tasks=tasks, start=config.Start(str(imported)), batch_size=8, **changes)
    return build(run).beginning()


def test_a_run_begins_with_it(imported):
    assert len(starting(imported).sources) == 46


TEXT = "model__towers__text__"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({f"{TEXT}transformer__activation": "gelu"}, "activation='gelu' but there 'quick_gelu'"),
        ({"preprocessing__mean": (0.5, 0.5, 0.5)}, "preprocessing.mean="),
        ({"preprocessing__lowercase": False}, "preprocessing.lowercase=False but there True"),
        ({"preprocessing__length": 7, f"{TEXT}length": 7}, "preprocessing.length=7 but there 8"),
    ],
)
def test_a_run_that_means_something_else_is_refused(imported, changes, named):
    with pytest.raises(UserError, match=named):
        starting(imported, **changes)


def test_the_command(tmp_path):
    folder = random_clip(tmp_path / "there")
    status, output, errors = finish(
        start("convert", "import", str(folder), f"--workdir={tmp_path / 'run'}")
    )
    assert status == 0, errors
    assert output.splitlines()[0].split() == ["tensors", "there", "parameters", "here", "millions"]
    assert output.splitlines()[-2].split()[:4] == ["huggingface_clip", "78", "all", "46"]
    assert (tmp_path / "run/tokenizer.json").read_bytes() == (
        folder / "tokenizer.json"
    ).read_bytes()


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("imprt", ["x"], "convert imprt: no such command; did you mean 'import'?"),
        ("import", [], "convert import takes one SOURCE"),
        ("import", ["x", "y"], "but was given x y"),
    ],
)
def test_a_wrong_command_line_is_told(command, arguments, said):
    with pytest.raises(UserError, match=re.escape(said)):
        main(command, arguments)


def test_a_run_folder_is_not_written_over(imported, tmp_path):
    with pytest.raises(UserError, match="holds a run already; choose another"):
        import_checkpoint(random_clip(tmp_path / "there"), imported)


def test_an_imported_run_is_not_trained_in_place(imported):
    status, _, errors = finish(
        start("train", f"--config={imported / 'config.json'}", f"--workdir={imported}")
    )
    assert status == 2 and "name its folder as config.start.checkpoint" in errors


def test_two_processes_read_a_part_each(imported, tmp_path):
    folder = random_clip(tmp_path / "there")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    arguments = ("import", str(folder), f"--workdir={tmp_path / 'run'}")
    both = [start("convert", *arguments, devices=2, **job, JAX_PROCESS_ID=str(i)) for i in range(2)]
    for status, _, errors in map(finish, both):
        assert status == 0, errors
    _, params, _ = restore(tmp_path / "run")
    _, wanted, _ = restore(imported)
    for path, x in wanted.items():
        np.testing.assert_array_equal(params[path], x, err_msg=path)


@pytest.mark.parametrize("writes", [True, False])
def test_one_process_writes_the_export(writes, imported, tmp_path, monkeypatch):
    flags = SimpleNamespace(to="hf", out=str(tmp_path / "out"), step=None)
    monkeypatch.setattr(convert, "FLAGS", flags)
    monkeypatch.setattr(convert, "join", lambda: None)
    monkeypatch.setattr(convert, "workdir_from_flags", lambda: imported)
    monkeypatch.setattr(convert, "missing_packages", lambda _: ["torch"])
    monkeypatch.setattr(convert, "processes", SimpleNamespace(is_main=lambda: writes))
    convert.main("export", [])
    assert (tmp_path / "out" / "README.md").exists() == (tmp_path / "out").exists() == writes


def test_a_part_of_a_parameter_is_that_part():
    model = build_model(*SETTINGS["huggingface_clip"](CLIP), "float32")
    rng = np.random.default_rng(0)
    params = {p: rng.normal(size=x.shape).astype(np.float32) for p, x in model.shapes().items()}
    found = origins("huggingface_clip", export_weights("huggingface_clip", params), model)
    for path, x in params.items():
        index = tuple(slice(n // 2, n) for n in x.shape)
        np.testing.assert_array_equal(found[path].read(index), x[index], err_msg=path)
