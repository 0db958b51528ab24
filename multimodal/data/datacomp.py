"""DataComp's choice of records: a file of their uids, each 32 hex digits as two 64-bit numbers."""

import logging
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multimodal.data.cache import cached
from multimodal.data.record import BrokenRecord, look_up
from multimodal.data.tar import TarSource
from multimodal.errors import UserError

log = logging.getLogger(__name__)


def chosen(tars: TarSource, path: str) -> np.ndarray:
    """Indices of the records whose uid is among those of the .npy at `path` (dtype u8,u8), sorted.

    A shard's uids come from the Parquet file that img2dataset left beside it, else from the
    records' `json.uid`; they are kept beside the shard. Raises UserError for another kind of file,
    and where no record is chosen.
    """
    wanted = _read(path)
    shards = [cached(path, "uids", _uids) for path in tars.paths]
    keep = [np.isin(shard["uids"], wanted) & shard["known"] for shard in shards]
    indices = np.flatnonzero(np.concatenate(keep))
    log.info("data.source.subset: %d of %d records are in %s", len(indices), len(tars), path)
    if not len(indices):
        raise UserError(
            f"data.source.subset: none of the {len(tars)} records is among the {len(wanted)} uids "
            f"of {path}"
        )
    return indices


def _read(path: str) -> np.ndarray:
    try:
        pairs = np.load(os.path.expanduser(path), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"data.source.subset: cannot read {path}: {error}") from None
    if pairs.dtype != np.dtype("u8,u8") or pairs.ndim != 1:
        raise UserError(
            f"data.source.subset: {path} holds {pairs.dtype} {pairs.shape}, not a list of u8,u8"
        )
    # Big-endian bytes: such strings can be compared, pairs cannot.
    return pairs.astype(">u8,>u8").view("S16")


def _uids(tar: str) -> dict[str, np.ndarray]:
    """`uids`: 16 bytes for each record of one tar; `known`: whether it has them."""
    source = TarSource(tar, ("json.uid",))
    beside = _beside(os.path.splitext(tar)[0] + ".parquet")
    found: list[bytes | None] = []
    for i in range(len(source)):
        key = source.key(i)
        try:
            uid = beside[key] if beside else look_up(source[i], "json.uid")
            found.append(bytes.fromhex(uid))
        except (BrokenRecord, KeyError, ValueError, TypeError):
            found.append(None)
    known = np.array([uid is not None for uid in found], bool)
    return {"uids": np.array([uid or b"" for uid in found], "S16"), "known": known}


def _beside(path: str) -> dict[str, str]:
    """key -> uid of the Parquet file beside a shard; empty where there is none."""
    try:
        table = pq.read_table(path, columns=["key", "uid"])
    except (OSError, pa.ArrowException):
        return {}
    if set(table.column_names) != {"key", "uid"}:
        return {}
    return dict(zip(table["key"].to_pylist(), table["uid"].to_pylist(), strict=True))
