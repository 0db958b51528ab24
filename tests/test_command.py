"""What cannot work is refused with one line and status 2, before anything is compiled."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from multimodal import command
from multimodal.config import to_dict
from multimodal.data import scenes
from tests.commands import ROOT, flags
from tests.data.shards import members, write_tar
from tests.toy import replace, toy_config

TOY = "configs/toy.py:train=64"
IMAGE, TEXT = "model.towers.image", "model.towers.text"
SOURCE = "tasks.pairs.data.source"

# What is given beside --config=configs/toy.py on 8 devices, and what the line has to say.
SETTINGS = {
    "misspelt": (["optimizer.lerning_rate=1"], "did you mean 'learning_rate'?"),
    "misspelt in a table": ([f"{IMAGE}.transformer.widht=8"], "did you mean 'width'?"),
    "unknown table": (["tasks.pears.weight=1"], "did you mean 'pairs'?"),
    "below a number": (["steps.x=1"], "config.steps.x"),
    "not a number": (["steps=many"], "config.steps=many"),
    "a fraction of a step": (["steps=1.5"], "config.steps=1.5"),
    "not a truth value": (["profile=maybe"], "config.profile=maybe"),
    "a table from a word": (["model=vit"], "config.model=vit"),
    "an absent table": (["tasks.pairs.data.holdout=x"], "write it into the recipe"),
    "outside the choices": (["dtype=float16"], "'float16' is not one of 'float32', 'bfloat16'"),
    "no steps": (["steps=0"], "config.steps=0: must be positive"),
    "batch over mesh": (["batch_size=12"], "12 examples do not divide over data x fsdp = 8"),
    "batch over microbatches": (["accumulate=3"], "does not divide into config.accumulate=3"),
    "microbatch over mesh": (["accumulate=4"], "4 examples do not divide over data x fsdp = 8"),
    "mesh over devices": (["mesh.fsdp=3"], "needs a product of 8, the number of devices"),
    "heads over width": ([f"{TEXT}.transformer.heads=3"], "heads=3 does not divide"),
    "heads over mesh": (["mesh.tensor=8"], "heads=4 do not divide over config.mesh.tensor=8"),
    "no GPU": (
        ["dtype=bfloat16", f"{IMAGE}.transformer.attention=cudnn"],
        "attention='cudnn' needs an NVIDIA GPU, not a cpu",
    ),
    "no TPU": (
        [f"{IMAGE}.transformer.attention=splash"],
        "attention='splash' needs a TPU, not a cpu",
    ),
    "length over mesh": (
        [
            f"{IMAGE}.class_token=True",
            f"{IMAGE}.transformer.attention=blockwise",
            "mesh.sequence=8",
        ],
        "17 tokens: they do not divide over config.mesh.sequence=8",
    ),
    "small vocabulary": ([f"{TEXT}.vocab_size=100"], "the tokenizer has 260 tokens"),
    "another end": ([f"{TEXT}.end_id=7"], "end_id=7: the tokenizer's is 2"),
    "no tokenizer": (["preprocessing.tokenizer=/no/such.json"], "/no/such.json"),
    "image size": (["preprocessing.image_size=64"], "differs from config.preprocessing.image_size"),
    "patch size": ([f"{IMAGE}.patch_size=7"], "patch_size=7 does not divide"),
    "text length": ([f"{TEXT}.length=16"], "differs from config.preprocessing.length=32"),
    "unknown tower": (["tasks.pairs.objectives.contrastive.pair=('image','txt')"], "'text'?"),
    "unknown pair": (["model.pairs=(('image','txet'),)"], "did you mean 'text'?"),
    "no bias": (["tasks.pairs.objectives.contrastive.loss=sigmoid"], "logit_bias_init"),
    "checkpoints never": (["checkpoints.every=0"], "config.checkpoints.every=0"),
    "checkpoints none": (["checkpoints.keep=0"], "config.checkpoints.keep=0"),
    "log never": (["log_every=0"], "config.log_every=0"),
    "average": (["ema=1.0"], "config.ema=1.0"),
    "warmup": (["optimizer.warmup_steps=21"], "do not fit into config.steps=20"),
    "no such parameter": (
        ["optimizer.rules=({'pattern': 'img/.*', 'multiplier': None},)"],
        "'img/.*' matches no parameter",
    ),
    "all frozen": (["optimizer.rules=({'pattern': '.*', 'multiplier': None},)"], "leave some"),
    "no expression": (["optimizer.rules=({'pattern': '(', 'multiplier': 1},)"], "no regular"),
    "workers": (["tasks.pairs.data.workers=-1"], "workers=-1: may not be below 0"),
    "unknown split": ([f"{SOURCE}.split=tset"], "'tset'"),
    "unknown field": (["tasks.pairs.data.fields.text=caption"], "records have:"),
}


@pytest.fixture(scope="module")
def refuse(tmp_path_factory):
    """Arguments -> the one line that they are refused with."""
    data = tmp_path_factory.mktemp("data")
    scenes.prepare(str(data), train=64, progress=False)
    trainer = subprocess.Popen(
        [sys.executable, "-m", "tests.refusals"],
        cwd=ROOT,
        env=os.environ | {"MULTIMODAL_DATA": str(data), "XLA_FLAGS": flags(8)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def attempt(*arguments):
        trainer.stdin.write(json.dumps(list(map(str, arguments))) + "\n")
        trainer.stdin.flush()
        answer = json.loads(trainer.stdout.readline())
        assert answer["status"] == 2, answer["errors"]
        assert answer["compiled"] == 0
        line, end = answer["errors"][:-1], answer["errors"][-1]
        assert line.startswith("error: ") and "\n" not in line and end == "\n", answer["errors"]
        return line

    yield attempt
    trainer.stdin.close()
    trainer.wait(timeout=60)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_work(name, refuse, tmp_path):
    settings, said = SETTINGS[name]
    given = [f"--config.{setting}" for setting in settings]
    assert said in refuse(f"--config={TOY}", f"--workdir={tmp_path}", *given)


def test_wrong_command_lines(refuse, tmp_path):
    workdir = f"--workdir={tmp_path}"
    assert "--config=FILE is missing" in refuse(workdir)
    assert "--workdir=DIR is missing" in refuse(f"--config={TOY}")
    assert "Did you mean: workdir" in refuse(f"--config={TOY}", "--workdri=x")
    assert "'steps=3' is not understood" in refuse(f"--config={TOY}", workdir, "steps=3")
    assert "no recipe at configs/tyo.py" in refuse("--config=configs/tyo.py", workdir)
    assert "no recipe at configs" in refuse("--config=configs", workdir)
    assert "did you mean 'steps'?" in refuse("--config=configs/toy.py:stpes=3", workdir)
    assert "'many' is not a int" in refuse("--config=configs/toy.py:steps=many", workdir)
    assert "did you mean 'uniter'?" in refuse("--config=configs/toy.py:family=unite", workdir)


def test_a_file_that_cannot_be_used_is_one_line_in_every_command(monkeypatch, capsys):
    monkeypatch.setattr(command.app, "run", lambda *_, **__: Path("/no/such/file").read_text())
    with pytest.raises(SystemExit) as end:
        command.run(lambda argv: None)
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: No such file or directory: /no/such/file\n"


def test_a_folder_that_cannot_be_written(refuse, tmp_path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path) in refuse(f"--config={TOY}", f"--workdir={tmp_path}/file")
    assert str(tmp_path) in refuse(f"--config={TOY}", f"--workdir={tmp_path}/file/below")


RECIPES = {
    "typo": ("resolve(values | {'stepz': 3})", "config.stepz: no such setting; did you mean 'st"),
    "nested typo": (
        "resolve(values | {'optimizer': {'warmup_step': 3}})",
        "config.optimizer.warmup_step: no such setting; did you mean 'warmup_steps'?",
    ),
    "wrong type": ("resolve(values | {'steps': '3'})", "config.steps: expected int, got '3'"),
    "number for table": ("resolve(values | {'mesh': 8})", "config.mesh: expected a table"),
    "nothing": ("resolve({})", "config.name: missing"),
    "kind": ("resolve(values | {'model': {'kind': 'clip'}})", "config.model.kind: no kind 'clip'"),
    "objective": (
        "resolve(values | {'tasks': {'pairs': values['tasks']['pairs'] | {'objectives': {'next':"
        " {'kind': 'captioning'}}}}})",
        "config.tasks.pairs.objectives.next: captioning reads 'caption_logits', which config.model "
        "(dual_encoder) does not give; it gives image, temperature, text",
    ),
    "evaluator": (
        "resolve(values | {'evaluators': {'test': {'kind': 'retrieval', 'every': 0, "
        "'data': values['tasks']['pairs']['data']}}})",
        "config.evaluators.test.every=0: must be positive",
    ),
    "evaluator data": (
        "resolve(values | {'evaluators': {'test': {'kind': 'retrieval', 'data': "
        "values['tasks']['pairs']['data'] | {'source': {'kind': 'tar', 'path': '/no/a.tar'}}}}})",
        "/no/a.tar",
    ),
    "data": (
        "resolve(values | {'tasks': {'pairs': values['tasks']['pairs'] | {'data': {'source': "
        "{'kind': 'tfds', 'name': 'no_such'}}}}})",
        "no_such",
    ),
    "raises": ("1 / 0", "recipe.py:7: ZeroDivisionError: division by zero"),
    "returns": ("values", "get_config returned dict"),
    "syntax": ("(", "recipe.py:7: SyntaxError"),
}
RECIPE = """
import json
from multimodal.recipe import resolve

def get_config(arg=""):
    values = json.loads(open({saved!r}).read())
    return {expression}
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The resolved toy recipe, as a run saves it."""
    config = replace(toy_config(), tasks__pairs__data__source__train=64)
    path = tmp_path_factory.mktemp("saved") / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_cannot_work(name, refuse, saved, tmp_path):
    expression, said = RECIPES[name]
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE.format(saved=str(saved), expression=expression))
    assert said in refuse(f"--config={recipe}", f"--workdir={tmp_path}/run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_recipes_that_are_none(refuse, tmp_path):
    def said_of(name, text):
        (tmp_path / name).write_text(text)
        return refuse(f"--config={tmp_path / name}", f"--workdir={tmp_path}/run")

    assert "AttributeError" in said_of("empty.py", "")
    assert "empty.py" in said_of("empty.py", "")
    assert "import.py:1: ModuleNotFoundError" in said_of("import.py", "import no_such_module")
    assert "is not a saved config: Expecting" in said_of("config.json", '{"name": ')
    assert "expected a table" in said_of("config.json", "[1, 2]")
    assert "a recipe is a .py file" in said_of("config.yaml", "name: x")


def test_a_missing_shard(refuse, saved, tmp_path):
    write_tar(tmp_path / "shard-0.tar", members(range(4)))
    values = json.loads(saved.read_text())
    source = {"kind": "tar", "path": f"{tmp_path}/shard-{{0..1}}.tar"}
    fields = {"image": "png", "text": "json.captions"}
    values["tasks"]["pairs"]["data"] |= {"source": source, "fields": fields}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert "shard-1.tar" in refuse(f"--config={tmp_path}/config.json", f"--workdir={tmp_path}/run")


def test_a_message_has_a_line_of_its_own_beside_a_bar(capsys):
    with tqdm(total=2) as bar:
        bar.update()
        command.Log().emit(logging.makeLogRecord({"msg": "left out %d", "args": (3,)}))
        bar.refresh()
    assert "left out 3" in re.split(r"[\r\n]", capsys.readouterr().err)
