"""PyTorch's files without PyTorch: what torch 2.13 wrote into `files` is read to the bit, what is
malicious or torn is refused, and nothing of a pickle is run.

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    torch.save({"single": base, "turned": base.T, "part": base[1:3, ::2], "half": base.half(), ...})
"""

import collections
import os
import pickle
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.interop.pytorch import in_pytorch

FILES = Path(__file__).parent / "files"
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)


def test_a_state_dict():
    found = in_pytorch(FILES / "state_dict.pt")
    wanted = {
        "single": BASE,
        "turned": BASE.T,
        "part": BASE[1:3, ::2],
        "half": BASE.astype(np.float16),
        "brain": BASE.astype(jnp.bfloat16),
        "scalar": np.float32(2.5),
        "count": np.int64(7),
        "parameter": BASE + np.float32(0.5),
        "empty": np.zeros((0, 3), np.float32),
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        array = np.asarray(found[name])
        assert (array.dtype, array.shape) == (value.dtype, value.shape), name
        np.testing.assert_array_equal(array, value, err_msg=name)


def test_an_archive_of_torchscript():
    found = in_pytorch(FILES / "scripted.pt")
    assert found.keys() == {
        "scale",
        "context_length",
        "visual.weight",
        "layers.0.weight",
        "layers.1.weight",
        "layers.1.bias",
    }
    np.testing.assert_array_equal(found["visual.weight"], BASE.astype(np.float16))
    np.testing.assert_array_equal(found["layers.1.weight"], np.arange(8.0).reshape(2, 4))
    assert np.asarray(found["context_length"]) == 77


class Runs:
    """A pickle of it runs a function of the system where it is loaded."""

    def __init__(self, function, *arguments):
        self.told = function, arguments

    def __reduce__(self):
        return self.told


def archive(path, content, **members):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
        for name, value in members.items():
            file.writestr(f"archive/{name}", value)
    return path


def changed(path, change, compression=zipfile.ZIP_STORED):
    """A copy of the state dict, with `change` of each member's name and content."""
    with (
        zipfile.ZipFile(FILES / "state_dict.pt") as old,
        zipfile.ZipFile(path, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return path


@pytest.mark.parametrize(
    ("function", "named"), [(os.system, "posix.system"), (eval, "__builtin__.eval")]
)
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, function, named):
    mark = tmp_path / "it-was-run"
    order = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    content = pickle.dumps({"weight": Runs(function, order)}, protocol=2)
    path = archive(tmp_path / "model.bin", content)
    with pytest.raises(UserError, match=f"wants to run {named} to be read"):
        in_pytorch(path)
    assert not mark.exists()
    pickle.loads(content)
    assert mark.exists()  # it would have been


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"a": collections.Counter()}), "wants to run collections.Counter"),
        (b"cbuiltins\ngetattr\n.", "wants to run builtins.getattr"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(I1\nI2\nI3\nI4\ntR.", "cannot be read: TypeError"),
        (b"\x80\x02}.", "holds no tensors by name"),
        (b"nonsense", "cannot be read: UnpicklingError"),
    ],
)
def test_what_is_not_tensors_alone_is_refused(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        in_pytorch(archive(tmp_path / "model.bin", content))


@pytest.mark.parametrize(
    "content",
    [
        # A numpy type for extensions takes its size, 64 here, from any who sets its state.
        b"ctorch\nBFloat16Storage\n(I3\nS'<'\nNNNI64\nI1\nI0\ntb0}.",
        # A tensor moved into another file; an attribute for the class of dictionaries.
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n"
        b"I24\ntQI0\n(I24\nt(I1\nttR}S'path'\nS'/etc/hosts'\nsb.",
        b"ccollections\nOrderedDict\n(N}S'items'\nNstb.",
    ],
)
def test_what_a_pickle_is_handed_it_cannot_change(tmp_path, content):
    with pytest.raises(UserError, match="cannot be read: "):
        in_pytorch(archive(tmp_path / "model.bin", content, **{"data/0": bytes(96)}))
    assert np.dtype(jnp.bfloat16).itemsize == 2


def test_a_dictionary_that_holds_itself_is_told(tmp_path):
    content = b"}q\x00S'again'\nh\x00s."
    with pytest.raises(UserError, match="model.bin holds a pickle that .*: RecursionError"):
        in_pytorch(archive(tmp_path / "model.bin", content))


def test_older_files_are_refused():
    with pytest.raises(UserError, match="not PyTorch's zip format; .* write it anew"):
        in_pytorch(FILES / "legacy.pt")


def test_a_torn_file_is_told(tmp_path):
    whole = (FILES / "state_dict.pt").read_bytes()
    (tmp_path / "torn.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not PyTorch's zip format"):
        in_pytorch(tmp_path / "torn.pt")


@pytest.mark.parametrize(
    ("change", "compression", "said"),
    [
        (lambda n, x: (n, x[:-8] if n.endswith("data/0") else x), 0, "storage 0 is not there"),
        (lambda n, x: (n, b"big" if n.endswith("byteorder") else x), 0, "big-endian"),
        (lambda n, x: (n, x), zipfile.ZIP_DEFLATED, "data/0 is compressed"),
        (lambda n, x: (n.replace("data.pkl", "other"), x), 0, "not one of PyTorch's"),
        # The shape (4, 6) of the first tensor in the pickle as (4, 7).
        (lambda n, x: (n, x.replace(b"K\x04K\x06\x86", b"K\x04K\x07\x86", 1)), 0, "reaches beyond"),
    ],
)
def test_tensors_that_do_not_lie_there_are_told(tmp_path, change, compression, said):
    with pytest.raises(UserError, match=said):
        in_pytorch(changed(tmp_path / "model.pt", change, compression))
