"""The rule table: logical axis names of parameters and activations to mesh axes."""

import math
from collections.abc import Callable, Sequence

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

RULES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "length": ("sequence",),  # activations only
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    "embed": ("fsdp",),  # parameters only: activations keep their width whole
}
BATCH = RULES["batch"]


def parameter_spec(
    axes: Sequence[str | None],
    shape: Sequence[int],
    mesh: Mesh | AbstractMesh,
    over: tuple[str, ...] = ("fsdp",),
) -> PartitionSpec:
    """Placement of one parameter, split `over` those axes as well as by tensor. A mesh axis that
    does not divide its own dimension moves to the largest other one that it divides, so that
    nothing is replicated in silence; two axes may split two dimensions."""
    sizes = dict(mesh.shape)
    parts: list[tuple[str, ...]] = [()] * len(shape)

    def fits(dim: int, axis: str) -> bool:
        shards = math.prod(sizes[a] for a in parts[dim]) * sizes[axis]
        return axes[dim] != "layers" and shape[dim] % shards == 0

    for axis in ("tensor", *over):
        like = "fsdp" if axis == "data" else axis
        named = [d for d, name in enumerate(axes) if like in RULES.get(name, ())]
        if sizes.get(axis, 1) == 1 or (axis == "tensor" and not named):
            continue
        others = sorted(set(range(len(shape))) - set(named), key=lambda d: -shape[d])
        home = next((d for d in named + others if fits(d, axis)), None)
        if home is not None:
            parts[home] += (axis,)
    return PartitionSpec(*[(p[0] if len(p) == 1 else p) or None for p in parts])


def parameter_shardings(
    axes: dict[str, tuple[str | None, ...]],
    shapes: dict[str, jax.ShapeDtypeStruct],
    mesh: Mesh,
    over: tuple[str, ...] = ("fsdp",),
) -> dict[str, NamedSharding]:
    """Sharding of every parameter, by path."""
    return {
        path: NamedSharding(mesh, parameter_spec(axes[path], leaf.shape, mesh, over))
        for path, leaf in shapes.items()
    }


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins an activation to the mesh by the logical name of each dimension; no mesh, no effect.

    A dimension shorter than its devices are many stays whole.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or math.prod(mesh.shape.values()) == 1:
        return x
    fits = lambda size, devices: size >= devices  # noqa: E731
    return jax.lax.with_sharding_constraint(x, _activation_spec(axes, x.shape, mesh, fits))


def on_shares(
    function: Callable,
    axes: Sequence[Sequence[str | None] | None],
    *args: jax.Array | None,
    check: bool = True,
) -> jax.Array:
    """`function(*args)` as every device runs it on its share of the arguments, whose dimensions
    have the logical names `axes`; the result is shared out as the first argument is. No mesh, no
    effect.

    A dimension that its devices do not divide is whole on each of them. `check=False` is for
    kernels that do not say along which axes their results differ; such a function must not speak
    to other devices about what is whole on them.
    """
    mesh = jax.sharding.get_abstract_mesh()
    names = set() if mesh.empty else _automatic(mesh)
    if not names or (mapped() and not shared()):
        return function(*args)
    fits = lambda size, devices: size % devices == 0  # noqa: E731
    specs = tuple(
        None if x is None else _activation_spec(dims, x.shape, mesh, fits)
        for x, dims in zip(args, axes, strict=True)
    )
    return jax.shard_map(
        function, in_specs=specs, out_specs=specs[0], axis_names=names, check_vma=check
    )(*args)


def devices_along(axis: str) -> int:
    """Devices that share a dimension of this logical name."""
    mesh = jax.sharding.get_abstract_mesh()
    names = RULES[axis] if not mesh.empty else ()
    return math.prod(mesh.shape[n] for n in names if n in _automatic(mesh))


def mapped() -> bool:
    """Is this inside of a shard_map?"""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def shared() -> bool:
    """Are there devices left to share anything out to?"""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and any(mesh.shape[name] > 1 for name in _automatic(mesh))


def _automatic(mesh: AbstractMesh) -> set[str]:
    """The axes left to share things out by: inside a shard_map those it maps are local already."""
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return {name for name, kind in kinds if "Auto" in str(kind)}


def _activation_spec(
    axes: Sequence[str | None],
    shape: Sequence[int],
    mesh: AbstractMesh,
    fits: Callable[[int, int], bool],
) -> PartitionSpec:
    automatic = _automatic(mesh)
    parts = []
    for name, size in zip(axes, shape, strict=True):
        names = tuple(a for a in RULES.get(name, ()) if a in automatic and mesh.shape[a] > 1)
        if not fits(size, math.prod(mesh.shape[a] for a in names)):
            names = ()
        parts.append((names[0] if len(names) == 1 else names) or None)
    return PartitionSpec(*parts)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The batch dimension over the data and fsdp axes, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def placement_table(
    shapes: dict[str, jax.ShapeDtypeStruct], shardings: dict[str, NamedSharding]
) -> str:
    """One line a parameter: path, shape, placement, bytes on each device; then the sum, and what
    fsdp should have split but could not."""
    rows, total, whole = [], 0, []
    shards = next(iter(shardings.values())).mesh.shape["fsdp"]
    for path, leaf in shapes.items():
        local = shardings[path].shard_shape(leaf.shape)
        if shards > 1 and math.prod(leaf.shape) > 1 and "fsdp" not in str(shardings[path].spec):
            whole.append(path)
        size = math.prod(local) * leaf.dtype.itemsize
        total += size
        rows.append((path, str(tuple(leaf.shape)), _show(shardings[path].spec), f"{size:,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    lines.append(f"parameters: {total:,} bytes a device")
    if whole:
        paths = ", ".join(whole)
        lines.append(f"whole on every device, as no size divides over fsdp={shards}: {paths}")
    return "\n".join(lines)


def _show(spec: PartitionSpec) -> str:
    names = ["+".join(p) if isinstance(p, tuple) else (p or "-") for p in spec]
    return "(" + ", ".join(names) + ")"
