"""What a ring takes of a TPU's memory: no more than the chunks that are at work."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from multimodal.objectives.contrastive import sigmoid_loss, softmax_loss
from multimodal.parallel.mesh import make_mesh
from multimodal.parallel.rules import BATCH
from multimodal.parallel.topology import tpu_devices


@pytest.mark.parametrize(("loss", "kib"), [(sigmoid_loss, 1024), (softmax_loss, 4096)])
def test_temporaries_at_batch_32768_on_16_chips(loss, kib):
    """The matrix of all logits would take 256 MiB on each of the devices."""
    mesh = make_mesh({"data": 4, "fsdp": 4}, tpu_devices("v5e:4x4"))

    def array(*shape, dtype=jnp.float32):
        spec = PartitionSpec(BATCH) if shape else PartitionSpec()
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    scalars = [array()] * (1 + (loss is sigmoid_loss))  # scale, and bias
    args = [array(32768, 768), array(32768, 768), *scalars]
    valid = array(32768, dtype=bool)
    wanted = tuple(range(1, 1 + len(args)))
    step = jax.value_and_grad(lambda valid, *x: loss(*x, valid=valid, form="ring"), wanted)
    shardings = (scalars[0].sharding, tuple(x.sharding for x in args))
    with jax.set_mesh(mesh):
        compiled = jax.jit(step, out_shardings=shardings).lower(valid, *args).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes <= kib * 1024
    assert memory.argument_size_in_bytes < 13 * 2**20  # each device holds its own rows alone
