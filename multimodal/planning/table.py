"""A plan in words and figures, for people."""

from collections.abc import Iterable, Sequence
from typing import Any

GIB, MIB = 2**30, 2**20


def page(figures: dict[str, Any]) -> str:
    """The whole plan, from `Plan.figures`."""
    f = figures
    mesh = ", ".join(f"{axis} {n}" for axis, n in f["mesh"].items() if n not in (1, None))
    lines = [
        f"{f['name']} on {f['topology']}: {f['devices']} devices, {f['hosts']} hosts; mesh "
        f"{mesh or 'of one device'}; batch {f['batch_size']:,}"
        + (f" in {f['accumulate']} parts" if f["accumulate"] > 1 else ""),
        "",
        _memory(f),
        *_rows([(f"  {part}", gib(n)) for part, n in f["memory_per_device"].items()]),
        "",
        f"work of a step: {tera(f['model_flops_per_step'])} needed, "
        f"{tera(f['hardware_flops_per_step'])} done",
        f"traffic of a step and device: {gib(f['hbm_traffic_bytes_per_device'])} of memory, "
        f"{mib(f['wire_bytes_per_device'])} on the wire",
        *_collectives(f["collectives"]),
        "",
        *_time(f),
        f"checkpoint: {gib(f['checkpoint_bytes'])}, {f['checkpoint_seconds']:.0f} s",
    ]
    if len(f["programs"]) > 1:
        lines += ["", *_kinds(f["programs"])]
    return "\n".join(lines)


def line(figures: dict[str, Any]) -> str:
    """A plan in one line: what `make plan-all` prints."""
    f = figures
    cells = [
        f"{f['name']:<24}",
        f"{f['topology']:<10}",
        f"{_fits(f):<13}",
        f"{gib(f['hbm_bytes_per_device']):>10}",
        f"{mib(f['wire_bytes_per_device']):>11}",
    ]
    if f["step_seconds_lower_bound"] is not None:
        cells += [
            f"{f['step_seconds_lower_bound'] * 1e3:>7.1f} ms ({f['bound_by']})",
            f"MFU <= {f['mfu_upper_bound']:.0%}",
            f"{f['chip_hours']:>9,.0f} chip-hours",
        ]
    return "  ".join(cells)


def ranking(rows: Sequence[dict[str, Any]]) -> str:
    """Variants of a run, one a line: what changes, and what it then takes."""
    cells = []
    for row in rows:
        f = row["figures"]
        if f is None:
            cells.append((row["change"], "does not fit", "", "", "", ""))
            continue
        seconds = f["step_seconds_lower_bound"]
        cells.append(
            (
                row["change"],
                _fits(f),
                gib(f["hbm_bytes_per_device"]),
                mib(f["wire_bytes_per_device"]),
                f"{seconds * 1e3:.1f} ms ({f['bound_by']})" if seconds else "-",
                f"{f['mfu_upper_bound']:.0%}" if f["mfu_upper_bound"] else "-",
            )
        )
    return "\n".join(_rows(cells, head=("change", "", "memory", "wire", "step >=", "MFU <=")))


def gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB / 100 else f"{size / MIB:.2f} MiB"


def mib(size: float) -> str:
    return f"{size / MIB:,.1f} MiB"


def tera(flops: float) -> str:
    return f"{flops / 1e12:,.2f} TFLOP"


def _fits(f: dict[str, Any]) -> str:
    return {True: "fits", False: "does not fit", None: "?"}[f["fits"]]


def _memory(f: dict[str, Any]) -> str:
    used, capacity = f["hbm_bytes_per_device"], f["hbm_capacity_bytes"]
    if capacity is None:
        return f"memory a device: {gib(used)}"
    spare = capacity - used
    room = f"{gib(spare)} to spare" if spare >= 0 else f"{gib(-spare)} too much"
    host = f["host_bytes_per_device"]
    beside = f"; {gib(host)} on its host" if host else ""
    return f"memory a device: {gib(used)} of {gib(capacity)}: {_fits(f)}, {room}{beside}"


def _collectives(found: list[dict[str, Any]]) -> list[str]:
    rows = [
        (f"  {c['kind']}", c["axes"], f"{c['times']:,}", mib(c["bytes"]), mib(c["wire_bytes"]))
        for c in found
    ]
    return _rows(rows, head=("  collective", "axes", "times", "bytes", "wire")) if rows else []


def _time(f: dict[str, Any]) -> list[str]:
    seconds = f["step_seconds_lower_bound"]
    if seconds is None:
        return ["time: no figures of this device are known"]
    parts = ", ".join(
        f"{name} {value * 1e3:.1f} ms" for name, value in f["bound_seconds"].items() if value
    )
    decoded = f"{f['examples_per_second_per_host']:,.0f} that each host has to decode"
    cost = f", {f['cost']:,.0f} at {f['price_per_chip_hour']} each" if f["cost"] else ""
    hours = f"{f['chip_hours']:,.0f} chip-hours{cost}"
    return [
        f"a step takes at least {seconds * 1e3:.1f} ms, bound by {f['bound_by']}: {parts}",
        f"MFU at most {f['mfu_upper_bound']:.1%}",
        f"examples/s: at most {f['examples_per_second']:,.0f}, {decoded}",
        f"{f['steps']:,} steps: at least {f['days']:,.2f} days, {hours}",
    ]


def _kinds(programs: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            f"  {p['task']}",
            f"{p['first_step']:,}",
            f"{p['share_of_steps']:.0%}",
            gib(p["hbm_bytes_per_device"]),
            tera(p["hardware_flops"]),
            mib(p["wire_bytes_per_device"]),
            _milliseconds(p["step_seconds_lower_bound"]),
        )
        for p in programs
    ]
    head = ("kinds of step", "from step", "of all", "memory", "work", "wire", "at least")
    return _rows(rows, head=head)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f} ms"


def _rows(rows: Iterable[tuple[str, ...]], head: tuple[str, ...] | None = None) -> list[str]:
    rows = [*([head] if head else []), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
