"""The evaluate command on a run that was trained here: same figures, any devices, own tokenizer."""

import json
import shutil
from pathlib import Path

import jax
import pytest
from PIL import Image

from multimodal import recipe
from multimodal.config import MeshShape
from multimodal.errors import UserError
from multimodal.evaluate import restore, run_evaluators
from multimodal.evaluation.own_data import evaluator_for
from multimodal.evaluation.run import evaluate
from multimodal.quickstart import RECIPE
from multimodal.train import train
from tests.commands import finish, start
from tests.toy import replace


def config_of(workdir):
    return json.loads((workdir / "config.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two steps of the quickstart's recipe on two devices; its folder and its last figures."""
    root = tmp_path_factory.mktemp("evaluate")
    config = recipe.finish(recipe.load(str(RECIPE), "train=64,batch=32,steps=2"))
    config = replace(config, data_dir=str(root / "data"), mesh=MeshShape(data=2))
    for name in ("by_objects", "colour"):
        del config.evaluators[name]
    return root / "run", train(config, root / "run", jax.devices()[:2])


def test_a_run_trained_on_two_devices_is_evaluated_on_eight(run):
    workdir, wanted = run
    experiment, params, step = restore(workdir)
    assert step == 2 and experiment.mesh.size == 8
    with jax.set_mesh(experiment.mesh):
        found = run_evaluators(experiment, params, step, workdir, experiment.config.evaluators)
    assert found == pytest.approx(wanted, abs=1e-6)
    assert found["eval/unseen_pairs/examples"] == 512


def test_a_checkpoint_copied_alone_brings_its_tokenizer(run, tmp_path):
    workdir, wanted = run
    copy = shutil.copytree(workdir / "checkpoints" / "00000002", tmp_path / "00000002")
    experiment, params, step = restore(copy)
    assert step == 2
    assert experiment.config.preprocessing.tokenizer == str(copy / "tokenizer.json")
    first = Path(config_of(workdir)["preprocessing"]["tokenizer"])
    for file in (copy / "tokenizer.json", workdir / "tokenizer.json"):
        assert file.read_bytes() == first.read_bytes()
    with jax.set_mesh(experiment.mesh):
        found = run_evaluators(experiment, params, step, tmp_path, ["shape"])
    assert found.items() <= {k: pytest.approx(v, abs=1e-6) for k, v in wanted.items()}.items()


def test_the_tokenizer_that_a_run_began_with_may_be_gone(run, tmp_path):
    workdir, _ = run
    copy = tmp_path / "00000002"
    shutil.copytree(workdir / "checkpoints" / "00000002", copy)
    elsewhere = str(workdir / "checkpoints" / "nowhere.json").encode()
    for name in ("_CHECKPOINT_METADATA", "MANIFEST.json"):
        first = config_of(workdir)["preprocessing"]["tokenizer"].encode()
        (copy / name).write_bytes((copy / name).read_bytes().replace(first, elsewhere))
    (copy / "MANIFEST.json").unlink()
    experiment, _, _ = restore(copy)
    assert experiment.tokenizer.vocab_size == 41
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="is torn: tokenizer.json is missing"):
        restore(copy)


def test_what_is_not_there_is_one_line(run, tmp_path):
    with pytest.raises(UserError, match="no checkpoint of step 7; steps: 2"):
        restore(run[0], 7)
    with pytest.raises(UserError, match="no run folder"):
        restore(tmp_path / "nowhere")


@pytest.fixture
def sorted_by_colour(tmp_path):
    """`red/0.png`, `blue/1.png`, ..., in one plain colour each."""
    for i in range(10):
        name = ("red", "blue")[i % 2]
        (tmp_path / "own" / name).mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (32, 32), (200 + i, 0, 0) if name == "red" else (0, i, 255))
        picture.save(tmp_path / "own" / name / f"{i}.png")
    return tmp_path / "own"


def test_own_data_through_the_command(run, sorted_by_colour, tmp_path):
    (tmp_path / "prompts.txt").write_text("a {} circle\na big {c} star\n")
    flags = ["--task=zero_shot", f"--data={sorted_by_colour}", f"--json={tmp_path / 'out.json'}"]
    page = (run[0] / "report_data.json").read_bytes()
    commands = [
        start("evaluate", f"--workdir={run[0]}", *flags, f"--templates={tmp_path / 'prompts.txt'}"),
        start("evaluate", f"--workdir={run[0]}", "--task=zeroshot", *flags[1:]),
        start("evaluate", f"--workdir={run[0]}", *flags[1:]),
    ]
    (code, out, err), *refused = [finish(command) for command in commands]
    assert code == 0, err
    figures = json.loads((tmp_path / "out.json").read_text())
    evaluator = evaluator_for(
        "zero_shot", data=str(sorted_by_colour), templates=str(tmp_path / "prompts.txt")
    )
    experiment, params, _ = restore(run[0])
    with jax.set_mesh(experiment.mesh):
        found = evaluate(
            evaluator,
            model=experiment.model,
            params=params,
            preprocessing=experiment.config.preprocessing,
            mesh=experiment.mesh,
        ).metrics
    wanted = {"step": 2} | {f"eval/zero_shot/{name}": value for name, value in found.items()}
    assert figures == pytest.approx(wanted, abs=1e-6)
    assert figures["eval/zero_shot/examples"] == 10 and "95 %" in out
    assert (run[0] / "report_data.json").read_bytes() == page  # of the run's own evaluators
    for (code, _, err), words in zip(
        refused, ("did you mean 'zero_shot'?", "--data needs --task, one of retrieval"), strict=True
    ):
        assert code == 2 and words in err.splitlines()[-1] and "Traceback" not in err


def test_the_command_prints_a_table_and_writes_json(run, tmp_path):
    workdir, wanted = run
    command = start("evaluate", f"--workdir={workdir}", "--evaluator=shape",
                    f"--json={tmp_path / 'out.json'}")  # fmt: skip
    code, out, err = finish(command)
    assert code == 0, err
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures.pop("step") == 2
    assert figures == pytest.approx(
        {k: v for k, v in wanted.items() if k.startswith("eval/shape/")}, abs=1e-6
    )
    assert "eval/shape/accuracy" in out and "chance" in out
