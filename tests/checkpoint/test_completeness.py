"""What lost something afterwards is set aside and named; the whole checkpoint before is used."""

import logging
import shutil

import pytest
import tensorstore

from multimodal import config
from multimodal.checkpoint import completeness
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.errors import UserError
from multimodal.parallel.mesh import make_mesh
from tests.checkpoint.states import META, bits, make_state, target_of

SETTINGS = config.Checkpoints(every=10, keep=3)


MESH = make_mesh({"data": 1, "fsdp": 8})


def state_of(step: int):
    return make_state(MESH, seed=step, width=512)  # so wide that tensors have their own files


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(folder, SETTINGS)
    for step in (10, 20):
        checkpoints.save(step, state_of(step), META)
    checkpoints.close()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """Whole checkpoints of steps 10 and 20, to be spoilt."""
    return shutil.copytree(saved, tmp_path / "checkpoints")


def largest(path):
    return max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def delete(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [delete, truncate, empty, flip])
@pytest.mark.parametrize(
    "name", ["_CHECKPOINT_METADATA", "state/_METADATA", "state/manifest.ocdbt", "LARGEST"]
)
def test_damage_is_found_and_the_step_before_used(folder, caplog, damage, name):
    broken = folder / "00000020"
    damage(largest(broken) if name == "LARGEST" else broken / name)
    checkpoints = Checkpoints(folder, SETTINGS)
    assert checkpoints.latest() == 10
    assert str(broken) in caplog.text
    assert "set aside as 00000020.torn" in caplog.text
    assert sorted(p.name for p in folder.iterdir()) == ["00000010", "00000020.torn"]
    state = state_of(10)
    assert bits(checkpoints.restore(10, target_of(state, MESH))) == bits(state)
    assert checkpoints.save(20, state_of(21), META), "the step can be saved again"
    assert checkpoints.steps() == [10, 20]
    checkpoints.close()


def test_every_single_file_is_missed(folder):
    whole = folder / "00000020"
    names = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file()]
    assert len(names) > 5
    for name in names:
        copy = folder / "copy"
        shutil.copytree(whole, copy)
        (copy / name).unlink()
        found = completeness.find_damage(copy)
        # Without its own list, the rest is read and is whole.
        assert found is None if name.name == completeness.MANIFEST else str(name) in str(found)
        shutil.rmtree(copy)


@pytest.mark.parametrize("left", ["nothing", "half a list"])
def test_killed_before_the_list_was_written_nothing_is_lost(folder, caplog, left):
    manifest = folder / "00000020" / completeness.MANIFEST
    manifest.unlink() if left == "nothing" else truncate(manifest)
    assert Checkpoints(folder).latest() == 20, "also for a reader, which writes nothing"
    assert not manifest.exists() or left == "half a list"
    checkpoints = Checkpoints(folder, SETTINGS)
    assert checkpoints.latest() == 20
    assert manifest.read_text().endswith("}")
    assert completeness.find_damage(manifest.parent) is None
    assert caplog.text == ""
    state = state_of(20)
    assert bits(checkpoints.restore(20, target_of(state, MESH))) == bits(state)


@pytest.mark.parametrize("damage", [delete, truncate, empty])
def test_without_a_list_lost_data_is_found_by_reading(folder, caplog, damage):
    broken = folder / "00000020"
    (broken / completeness.MANIFEST).unlink()
    damage(largest(broken / "state/ocdbt.process_0/d"))
    checkpoints = Checkpoints(folder, SETTINGS)
    assert checkpoints.latest() == 10
    assert "cannot be read" in caplog.text


def test_without_a_list_a_lost_chunk_is_no_zeros(folder, caplog):
    broken = folder / "00000020"
    (broken / completeness.MANIFEST).unlink()
    spec = {"driver": "ocdbt", "base": f"file://{broken}/state/"}
    chunks = tensorstore.KvStore.open(spec).result()
    chunks.delete_range(tensorstore.KvStore.KeyRange("ema/scale/c", "ema/scale/d")).result()
    assert Checkpoints(folder, SETTINGS).latest() == 10
    assert "ema/scale cannot be read" in caplog.text


def test_a_torn_step_asked_for_by_number_is_refused(folder):
    truncate(largest(folder / "00000020"))
    reader = Checkpoints(folder)
    for ask in (reader.restore_params, lambda step: reader.restore(step, state_of(step))):
        with pytest.raises(UserError, match="00000020 is torn: .* bytes instead of .*another step"):
            ask(20)


def test_a_reader_passes_over_what_is_torn_and_touches_nothing(folder, caplog):
    truncate(largest(folder / "00000020"))
    (folder / "00000030.orbax-checkpoint-tmp").mkdir()
    before = sorted(folder.rglob("*"))
    reader = Checkpoints(folder)
    assert reader.latest() == 10
    assert reader.steps() == [10]
    assert sorted(folder.rglob("*")) == before
    assert "00000020 is torn" in caplog.text
    assert "passed over" in caplog.text


def test_leftovers_of_a_killed_run_are_cleared_up(folder, caplog):
    for step in range(30, 90, 10):
        (folder / f"{step:08d}.orbax-checkpoint-tmp").mkdir()
    (folder / "00000005.deleting").mkdir()
    (folder / "notes").mkdir()
    with caplog.at_level(logging.WARNING):
        assert Checkpoints(folder, SETTINGS).latest() == 20
    assert "stopped in the middle of saving it; set aside as 00000080.torn" in caplog.text
    names = {p.name for p in folder.iterdir()}
    assert {"00000010", "00000020", "notes"} < names
    assert sum(".torn" in name for name in names) == SETTINGS.keep, "they do not pile up"
    assert len(names) == 3 + SETTINGS.keep


@pytest.mark.parametrize("damage", [delete, truncate, flip])
@pytest.mark.parametrize("listed", [True, False])
def test_a_file_that_came_along_is_part_of_the_checkpoint(tmp_path, caplog, damage, listed):
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    for step in (10, 20):
        checkpoints.save(step, {"params": state_of(1).params["scale"]}, META, files={"a": b"abc"})
    checkpoints.wait()
    damage(checkpoints.file(20, "a"))
    if not listed:  # the run was killed before it had written the list
        (tmp_path / "00000020" / completeness.MANIFEST).unlink()
    assert checkpoints.latest() == 10
    assert "is torn: a " in caplog.text
