"""What was saved comes back to the bit, on any mesh; what does not fit is named."""

import errno
import json
import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from multimodal import config
from multimodal.checkpoint import bundle
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.checkpoint.locate import locate
from multimodal.checkpoint.tree import flatten
from multimodal.errors import UserError
from multimodal.parallel.mesh import make_mesh
from tests.checkpoint.states import META, State, bits, make_state, target_of


@pytest.fixture
def mesh():
    return make_mesh({"data": 1, "fsdp": 8})


@pytest.fixture
def checkpoints(tmp_path):
    found = Checkpoints(tmp_path / "run" / "checkpoints", config.Checkpoints(every=10, keep=2))
    yield found
    found.close()


@pytest.mark.parametrize(
    "shape", [{"fsdp": 8, "data": 1}, {"data": 2, "tensor": 4}, {"data": 1, "fsdp": 1}]
)
def test_state_returns_to_the_bit_on_any_mesh(checkpoints, mesh, shape):
    state = make_state(mesh)
    assert checkpoints.save(10, state, META)
    other = make_mesh(shape, jax.devices()[: int(np.prod([abs(n) for n in shape.values()]))])
    target = target_of(state, other)
    restored = checkpoints.restore(checkpoints.latest(), target)
    assert bits(restored) == bits(state)
    for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(target), strict=True):
        assert leaf.sharding == wanted.sharding
        assert leaf.committed


def test_arrays_may_be_donated_as_soon_as_save_returns(checkpoints, mesh):
    state = make_state(mesh, width=1024)
    before = bits(state)
    checkpoints.save(10, state, META)
    change = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 + 1, s), donate_argnums=0)
    jax.block_until_ready(change(state))
    assert bits(checkpoints.restore(10, target_of(make_state(mesh, width=1024), mesh))) == before


def test_meta_round_trip_and_it_is_json(checkpoints, mesh):
    checkpoints.save(10, make_state(mesh), META)
    checkpoints.wait()
    assert checkpoints.meta(10) == META == json.loads(json.dumps(checkpoints.meta(10)))


def test_saves_on_the_cadence_and_keeps_the_newest_and_every_so_many(tmp_path, mesh):
    checkpoints = Checkpoints(tmp_path, config.Checkpoints(every=10, keep=2, keep_every=30))
    state = make_state(mesh)
    saved = [step for step in range(0, 75, 5) if checkpoints.save(step, state, META)]
    assert saved == [10, 20, 30, 40, 50, 60, 70]
    assert checkpoints.steps() == [30, 60, 70]
    assert checkpoints.save(73, state, META, force=True)
    assert not checkpoints.save(73, state, META, force=True), "already here"
    assert checkpoints.latest() == 73
    assert checkpoints.steps() == [30, 60, 70, 73]
    checkpoints.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("00000030", "00000060", "00000070", "00000073")
    ]


def test_latest_goes_by_number_and_is_none_when_there_is_nothing(checkpoints, mesh):
    assert checkpoints.latest() is None
    assert checkpoints.steps() == []
    for step in (100_000_000, 90):
        checkpoints.save(step, make_state(mesh), META)
    assert checkpoints.latest() == 100_000_000


def change(state: State, **params) -> State:
    return state._replace(params=state.params | params)


def test_each_misfit_is_named(checkpoints, mesh):
    state = make_state(mesh)
    checkpoints.save(10, state, META)
    checkpoints.wait()
    target = target_of(state, mesh)

    def struct(shape, dtype):
        replicated = NamedSharding(mesh, PartitionSpec())
        return jax.ShapeDtypeStruct(shape, dtype, sharding=replicated)

    cases = {
        r"params/scale was saved with shape \(\), not \(4,\)": change(
            target, scale=struct((4,), jnp.float32)
        ),
        r"params/scale was saved as float32, not bfloat16": change(
            target, scale=struct((), jnp.bfloat16)
        ),
        r"params/extra \(3, 2\) is wanted but was not saved": change(
            target, extra=struct((3, 2), jnp.float32)
        ),
        r"ema/\w+.* was saved but has no place.*and 2 more": target._replace(ema=None),
    }
    for message, wrong in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            checkpoints.restore(10, wrong)
        assert str(checkpoints.folder) in str(caught.value)
        assert "config.json" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_parameters_alone_with_and_without_target(checkpoints, mesh):
    state = make_state(mesh)
    checkpoints.save(10, state, META)
    checkpoints.wait()
    reader = Checkpoints(checkpoints.folder)
    assert bits(reader.restore_params(10)) == bits(flatten(state.ema))
    assert bits(reader.restore_params(10, ema=False)) == bits(flatten(state.params))
    target = target_of(state, make_mesh({"data": 2, "tensor": 4}))
    params = reader.restore_params(10, target.params, ema=False)
    assert bits(params) == bits(state.params)
    assert params["image"]["kernel"].sharding == target.params["image"]["kernel"].sharding
    wrong = target.params | {"scale": jax.ShapeDtypeStruct((3,), jnp.float32)}
    with pytest.raises(UserError, match=r"ema/scale was saved with shape \(\), not \(3,\)"):
        reader.restore_params(10, wrong)


def test_no_average_was_saved(checkpoints, mesh):
    state = make_state(mesh, ema=False)
    checkpoints.save(10, state, META)
    checkpoints.wait()
    assert bits(checkpoints.restore_params(10)) == bits(flatten(state.params))
    with pytest.raises(UserError, match="no moving average"):
        checkpoints.restore_params(10, ema=True)


def test_target_without_shardings_is_whole_on_every_device(checkpoints, mesh):
    state = make_state(mesh)
    checkpoints.save(10, state, META)
    checkpoints.wait()
    restored = checkpoints.restore(10, jax.eval_shape(lambda: state))
    assert bits(restored) == bits(state)
    assert restored.params["image"]["kernel"].is_fully_replicated


def test_a_step_that_is_not_there(checkpoints, mesh):
    checkpoints.save(10, make_state(mesh), META)
    checkpoints.wait()
    with pytest.raises(UserError, match="00000020; steps here: 10"):
        checkpoints.meta(20)


def test_a_folder_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Checkpoints(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists(), "a reader makes nothing"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        Checkpoints(tmp_path / "file" / "checkpoints", config.Checkpoints())


def test_leaves_that_are_no_arrays_are_refused_before_anything_is_written(checkpoints):
    for leaf in (3, jax.random.key(0)):
        with pytest.raises(TypeError, match="params/x"):
            checkpoints.save(10, {"params": {"x": leaf}}, META)
    with pytest.raises(TypeError, match="JSON"):
        checkpoints.save(10, {"params": {"x": jnp.ones(3)}}, {"config": object()})
    assert list(checkpoints.folder.iterdir()) == []


@pytest.mark.parametrize("where", ["begin", "end"])
def test_full_disk_is_one_line_at_the_next_call_and_leaves_no_half(
    checkpoints, mesh, monkeypatch, where
):
    checkpoints.save(10, make_state(mesh), META)
    checkpoints.wait()
    real = bundle.ocp.save_async

    def no_room(*arguments, **named):
        real(*arguments, **named).result()
        if where == "begin":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def result():
            raise ValueError("RESOURCE_EXHAUSTED: ... [OS error 28: No space left on device]")

        return SimpleNamespace(result=result)

    monkeypatch.setattr(bundle.ocp, "save_async", no_room)
    with pytest.raises(UserError, match="cannot save step 20 in .*: the disk is full"):
        checkpoints.save(20, make_state(mesh), META)
        checkpoints.save(30, make_state(mesh), META)
    monkeypatch.undo()
    assert checkpoints.save(40, make_state(mesh), META), "the run may go on"
    assert checkpoints.latest() == 40


def test_orbax_is_silent(checkpoints, mesh, caplog):
    with caplog.at_level("DEBUG"):
        checkpoints.save(10, make_state(mesh), META)
        checkpoints.restore(checkpoints.latest(), target_of(make_state(mesh), mesh))
    assert [record.getMessage() for record in caplog.records if "orbax" in record.pathname] == []


def test_files_come_along_as_they_are(checkpoints, mesh):
    content = bytes(range(256)) * 5000  # longer than what is given a checksum
    state = make_state(mesh)
    checkpoints.save(10, state, META, files={"tokenizer.model": content, "notes.txt": b""})
    checkpoints.wait()
    assert checkpoints.file(10, "tokenizer.model").read_bytes() == content
    assert checkpoints.file(10, "notes.txt").read_bytes() == b""
    assert bits(checkpoints.restore(10, target_of(state, mesh))) == bits(state)
    assert set(checkpoints.tensors(10)) == set(flatten(state))


def test_some_tensors_are_read_alone_and_sharded(checkpoints, mesh):
    state = make_state(mesh)
    checkpoints.save(10, state, META)
    checkpoints.wait()
    whole = flatten(target_of(state, mesh))
    # Not in order, and one whose name begins as another's does.
    target = {name: whole[name] for name in ("params/text/embed", "params/image/bias")}
    found = checkpoints.restore_some(10, target)
    assert bits(found) == bits({name: flatten(state)[name] for name in target})
    assert all(found[name].sharding == target[name].sharding for name in target)
    with pytest.raises(UserError, match="params/none/x .* is wanted but was not saved"):
        checkpoints.restore_some(10, {"params/none/x": whole["params/scale"]})


def test_a_checkpoint_is_located_by_run_by_its_own_folder_and_by_step(tmp_path, mesh):
    run = tmp_path / "run"
    checkpoints = Checkpoints(run / "checkpoints", config.Checkpoints(every=10, keep=2))
    for step in (10, 20):
        checkpoints.save(step, make_state(mesh), META)
    checkpoints.close()
    for path, step, wanted in (
        (run, None, 20),
        (run, 10, 10),
        (run / "checkpoints" / "00000010", None, 10),
    ):
        folder, found = locate(path, step)
        assert found == wanted and folder.meta(found) == META
    for path, step, told in (
        (run, 30, "no checkpoint of step 30; steps: 10, 20"),
        (run / "checkpoints" / "00000010", 20, "no checkpoint of step 20; steps: 10"),
        (tmp_path / "none", None, "no run folder"),
        (tmp_path, None, "the folder does not exist"),
    ):
        with pytest.raises(UserError, match=told):
            locate(path, step)
