"""Is a checkpoint whole? Orbax does not notice files that were cut short or have gone.

Once Orbax has put a checkpoint in its place, `write_manifest` lists its files beside them; later
`find_damage` compares. A checkpoint without a list (the process died in between) is read in full.
"""

import json
import os
import zlib
from pathlib import Path

import tensorstore

MANIFEST = "MANIFEST.json"
RECORD = "_CHECKPOINT_METADATA"  # Orbax writes it last, with our own part under `custom_metadata`
STATE = "state"
_CHECKSUM_BELOW = 1 << 20  # bytes; the size alone speaks for larger files


def write_manifest(folder: Path) -> None:
    """Lists every file below `folder` with its size and, when small, its CRC-32."""
    listed = {name: _fingerprint(folder / name) for name in _files(folder)}
    draft = folder / f"{MANIFEST}.draft"
    draft.write_text(json.dumps({"files": listed}, indent=1))
    os.replace(draft, folder / MANIFEST)


def find_damage(folder: Path) -> str | None:
    """What is wrong with the checkpoint in `folder`, in a few words; None when it is whole."""
    try:
        read_record(folder)
        manifest = _read_manifest(folder)
        if manifest is not None:
            return _changed_file(folder, manifest)
        # The files that came along are written last: without a list they may not be there.
        return _changed_file(folder, read_record(folder)["files"]) or _unreadable_tensor(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def read_record(folder: Path) -> dict:
    """What was saved beside the tensors: `{"meta": ..., "tensors": {path: [shape, dtype]}}`."""
    record = json.loads((folder / RECORD).read_text())["custom_metadata"]
    return {name: record[name] for name in ("meta", "tensors")} | {"files": record.get("files", {})}


def fingerprints(files: dict[str, bytes]) -> dict[str, list[int | None]]:
    """Size and, when small, CRC-32 of each of some files that are to be written."""
    return {name: _of(content, len(content)) for name, content in files.items()}


def has_manifest(folder: Path) -> bool:
    return _read_manifest(folder) is not None


def _files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    return [name for name in names if not name.startswith(MANIFEST)]


def _fingerprint(path: Path) -> list[int | None]:
    size = path.stat().st_size
    return _of(path.read_bytes() if size < _CHECKSUM_BELOW else b"", size)


def _of(content: bytes, size: int) -> list[int | None]:
    return [size, zlib.crc32(content) if size < _CHECKSUM_BELOW else None]


def _read_manifest(folder: Path) -> dict[str, list[int | None]] | None:
    """None when there is none, or when a power cut left it empty."""
    try:
        return json.loads((folder / MANIFEST).read_text())["files"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _changed_file(folder: Path, manifest: dict[str, list[int | None]]) -> str | None:
    for name, saved in manifest.items():
        if not (folder / name).exists():
            return f"{name} is missing"
        found = _fingerprint(folder / name)
        if found[0] != saved[0]:
            return f"{name} has {found[0]} bytes instead of {saved[0]}"
        if found[1] != saved[1]:
            return f"{name} has other contents than were saved"
    return None


def _unreadable_tensor(folder: Path) -> str | None:
    """Reads every tensor, one at a time, in this process alone; a lost chunk is an error."""
    store = {"driver": "ocdbt", "base": f"file://{(folder / STATE).resolve()}/"}
    for name, (shape, _) in read_record(folder)["tensors"].items():
        if 0 in shape:  # holds nothing and is not stored
            continue
        spec = {
            "driver": "zarr3",
            "kvstore": store | {"path": f"{name}/"},
            "fill_missing_data_reads": False,
        }
        try:
            tensor = tensorstore.open(spec, read=True).result()
            if list(tensor.shape) != shape:
                return f"{name} has shape {list(tensor.shape)} instead of {shape}"
            tensor.read().result()
        except (OSError, ValueError) as error:
            return f"{name} cannot be read ({str(error).splitlines()[0]})"
    return None
