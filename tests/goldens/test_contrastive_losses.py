"""Golden sets covered: loss_softmax_contrastive, loss_sigmoid_contrastive.

Float64; loss and gradients for embeddings, log scale and bias within 1e-10, in every form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.objectives.contrastive import sigmoid_loss, softmax_loss
from multimodal.parallel.mesh import make_mesh
from tests.goldens.golden import load_golden


def normalise(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def softmax(image, text, log_scale, **options):
    return softmax_loss(normalise(image), normalise(text), log_scale.reshape(()), **options)


def sigmoid(image, text, log_scale, bias, **options):
    args = normalise(image), normalise(text), log_scale.reshape(()), bias.reshape(())
    return sigmoid_loss(*args, **options)


@pytest.mark.parametrize("form", ["dense", "chunked", "ring"])
@pytest.mark.parametrize(
    ("name", "loss", "arguments"),
    [
        ("loss_softmax_contrastive", softmax, ("image", "text", "log_scale")),
        ("loss_sigmoid_contrastive", sigmoid, ("image", "text", "log_scale", "bias")),
    ],
)
def test_loss_and_gradients(name, loss, arguments, form):
    golden = load_golden(name)
    inputs = [golden.inputs[key] for key in arguments]
    # The largest ring that the set's batch divides over.
    devices = max(n for n in range(1, 9) if len(inputs[0]) % n == 0)
    chunk = None if form == "dense" else max(1, len(inputs[0]) // 5)
    mesh = make_mesh({"data": devices}, devices=jax.devices()[:devices])
    with jax.enable_x64(True), jax.set_mesh(mesh):
        function = jax.value_and_grad(
            lambda *args: loss(*args, form=form, chunk=chunk), argnums=tuple(range(len(inputs)))
        )
        value, grads = jax.jit(function)(*inputs)
        np.testing.assert_allclose(value, golden.outputs["loss"], rtol=0, atol=1e-10)
        for key, grad in zip(arguments, grads, strict=True):
            want = golden.outputs[f"grad_{key}"]
            np.testing.assert_allclose(
                grad.reshape(want.shape), want, rtol=0, atol=1e-10, err_msg=key
            )
