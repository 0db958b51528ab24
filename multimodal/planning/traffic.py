"""What a compiled program reads from and writes to a device's main memory, from its HLO text."""

from multimodal.parallel.hlo import Array, Computation, Instruction, Module, parse

# They name arrays, or have their parts counted where these run.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "after-all", "partition-id", "replica-id", "opt-barrier", "async-start", "iota",
}  # fmt: skip


def hbm_bytes(text: str) -> int:
    """Bytes that one device moves to and from its main memory in a step: of each instruction its
    operands and its result once, as often as it runs.

    A fusion keeps to itself what is inside; of an array that it slices it reads the slice, and of
    one that it updates in place it writes the update. What lies in on-chip memory is free.
    """
    module = parse(text)
    return sum(
        _of(module, module.computations[name], instruction) * times
        for name, instruction, times in module.walk()
    )


def _of(module: Module, inside: Computation, i: Instruction) -> int:
    if i.opcode in _FREE or i.opcode.endswith(("-done", "-update")):
        return 0
    operands = [_results(inside, name) for name in i.operands]
    if i.opcode == "fusion":
        return _of_fusion(module, module.computations[i.calls], i, operands)
    if i.opcode.endswith("-start"):
        # A copy's results are its target, the source and counters, others' begin with the sources;
        # a slice reads what it writes.
        place = 0 if i.opcode == "copy-start" else len(operands)
        target = i.results[min(place, len(i.results) - 1)]
        source = [Array((), min(x.bytes, target.bytes), x.in_hbm) for x in _flat(operands)]
        return _bytes([target, *source])
    if i.opcode in ("dynamic-slice", "slice", "gather"):
        return _bytes(i.results) + min(_bytes(i.results), _bytes(operands[0]))
    if i.opcode in ("dynamic-update-slice", "scatter"):
        return 2 * _bytes(operands[1])
    # A GPU library's call also returns the room that it works in.
    results = i.results[:-1] if '"__cu' in i.rest and len(i.results) > 1 else i.results
    return _bytes(results) + _bytes(_flat(operands))


def _of_fusion(
    module: Module, body: Computation, outer: Instruction, operands: list[tuple[Array, ...]]
) -> int:
    total = 0
    for number, given in enumerate(map(_bytes, operands)):
        read = _read(module, body, _parameter(body, number)) if given else 0
        total += given if read is None else min(read, given)
    root = next(i for i in body.values() if i.is_root)
    outs = [body[n] for n in root.operands] if root.opcode == "tuple" else [root]
    written = [_written(body, i) for i in outs]
    if len(written) != len(outer.results):
        return total + _bytes(outer.results)
    return total + sum(
        array.bytes if size is None else size
        for size, array in zip(written, outer.results, strict=True)
        if array.in_hbm
    )


def _parameter(body: Computation, number: int) -> str:
    start = f"{number})"
    return next(
        i.name for i in body.values() if i.opcode == "parameter" and i.rest.startswith(start)
    )


def _read(module: Module, body: Computation, name: str) -> int | None:
    """Bytes that a fusion reads of one of its arrays; None for all of it."""
    total = 0
    for user in body.values():
        if name not in user.operands:
            continue
        size: int | None = None
        if user.opcode in ("dynamic-slice", "slice", "gather"):
            size = sum(x.bytes for x in user.results)
        elif user.opcode == "bitcast":
            size = _read(module, body, user.name)
        elif user.opcode == "tuple" and user.is_root:
            size = 0  # handed on as it is
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            size = 0
        elif user.opcode == "fusion":
            inner = module.computations[user.calls]
            size = _read(module, inner, _parameter(inner, user.operands.index(name)))
        if size is None:
            return None
        total += size
    return total


def _written(body: Computation, i: Instruction) -> int | None:
    """Bytes that a result of a fusion writes, where these are not all of it."""
    while i.opcode == "bitcast":
        i = body[i.operands[0]]
    if i.opcode == "parameter":
        return 0
    if i.opcode == "dynamic-update-slice":
        return sum(x.bytes for x in body[i.operands[1]].results)
    return None


def _results(inside: Computation, name: str) -> tuple[Array, ...]:
    return inside[name].results if name in inside else ()


def _flat(operands: list[tuple[Array, ...]]) -> list[Array]:
    return [array for results in operands for array in results]


def _bytes(found: list[Array] | tuple[Array, ...]) -> int:
    return sum(array.bytes for array in found if array.in_hbm)
