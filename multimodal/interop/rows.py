"""What tables of other people's names are made of.

A row is (their tensor, our path, transform of `convert.TRANSFORMS`). `{i}` in their name counts
layers, which are stacked in our parameter. `query|key|value` in our path stands for three
parameters that are one tensor there, one after the other along its first axis.
"""

from typing import NamedTuple


class Row(NamedTuple):
    theirs: str
    ours: str
    transform: str = "as_is"

    @property
    def paths(self) -> list[str]:
        """Our parameters in the order in which their tensor holds them."""
        parts = [part.split("|") for part in self.ours.split("/")]
        count = max(map(len, parts))
        return ["/".join(p[min(k, len(p) - 1)] for p in parts) for k in range(count)]


class Layout(NamedTuple):
    """A table. `ignored` tensors are no weights (position ids, sizes). `tied` ones are copies of
    others: they may be there and are not written. `older` are endings of names as earlier files
    have them, which are read and not written."""

    rows: tuple[Row, ...]
    ignored: tuple[str, ...] = ()
    tied: dict[str, str] = {}
    older: dict[str, str] = {}

    def today(self, name: str) -> str:
        """The name that a tensor of an earlier file has now."""
        for old, new in self.older.items():
            if name.endswith(old):
                return name.removesuffix(old) + new
        return name


def linear(theirs: str, ours: str) -> list[Row]:
    return [
        Row(f"{theirs}.weight", f"{ours}/kernel", "linear"),
        Row(f"{theirs}.bias", f"{ours}/bias"),
    ]


def norm(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}.weight", f"{ours}/scale"), Row(f"{theirs}.bias", f"{ours}/bias")]


def block(prefix: str, ours: str, names: dict[str, str]) -> list[Row]:
    """Rows of the stack at `ours`, whose parts have the `names` under `prefix`, by our name."""
    rows = []
    for part, theirs in names.items():
        theirs, path = f"{prefix}.{theirs}", f"{ours}/blocks/{part}"
        if part.endswith("norm"):
            rows += norm(theirs, path)
        elif theirs.endswith("in_proj"):  # PyTorch's own attention
            rows += in_projection(theirs, path)
        else:
            rows += linear(theirs, path)
    return rows


def in_projection(theirs: str, ours: str) -> list[Row]:
    return [
        Row(f"{theirs}_weight", f"{ours}/kernel", "linear"),
        Row(f"{theirs}_bias", f"{ours}/bias"),
    ]


IMAGE, TEXT = "towers/image", "towers/text"
TEMPERATURE = "temperature/image-text"
