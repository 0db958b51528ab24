"""The models' formulas once more, in NumPy float64."""

import math

import jax
import numpy as np
from flax import nnx


def randomised(module: nnx.Module, seed: int = 0, scale: float = 0.5) -> nnx.Module:
    """The module with every parameter drawn anew, norms and biases included."""
    rng = np.random.default_rng(seed)
    graph, state = nnx.split(module)
    draw = lambda x: (scale * rng.normal(size=x.shape)).astype(x.dtype)  # noqa: E731
    return nnx.merge(graph, jax.tree.map(draw, state))


def f64(x) -> np.ndarray:
    return np.asarray(x[...] if isinstance(x, nnx.Variable) else x, np.float64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v, mask=None, bias=None, causal=False, cosine=False):
    """Query by query, head by head; [batch, length, heads, head_dim]. Output and weights."""
    q, k, v = f64(q), f64(k), f64(v)
    batch, queries, heads, dim = q.shape
    keys = k.shape[1]
    weights = np.zeros((batch, heads, queries, keys))
    for b, h, i in np.ndindex(batch, heads, queries):
        scores = np.full(keys, -np.inf)
        for j in range(keys):
            if causal and j > i + keys - queries:
                continue
            if mask is not None and not np.broadcast_to(mask, weights.shape)[b, h, i, j]:
                continue
            dot = q[b, i, h] @ k[b, j, h]
            if cosine:
                scores[j] = dot / np.linalg.norm(q[b, i, h]) / np.linalg.norm(k[b, j, h])
            else:
                scores[j] = dot / math.sqrt(dim)
            if bias is not None:
                scores[j] += np.broadcast_to(bias, weights.shape)[b, h, i, j]
        weights[b, h, i] = softmax(scores)
    return np.einsum("bhij,bjhd->bihd", weights, v), weights


def linear(layer, x):
    return x @ f64(layer.kernel) + (0 if layer.bias is None else f64(layer.bias))


def layer_norm(layer, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + layer.eps) * f64(layer.scale) + f64(layer.bias)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "quick_gelu": quick_gelu}


def attend(layer, x, context=None, mask=None, causal=False):
    """The whole attention layer: output [batch, length, width] and weights."""
    context = x if context is None else context
    heads = lambda y: y.reshape(*y.shape[:2], layer.heads, -1)  # noqa: E731
    q = heads(linear(layer.query, x))
    k, v = heads(linear(layer.key, context)), heads(linear(layer.value, context))
    y, weights = attention(q, k, v, mask=mask, causal=causal)
    return linear(layer.out, y.reshape(*x.shape[:2], -1)), weights


def mlp(layer, x):
    return linear(layer.down, ACTIVATIONS[layer.activation](linear(layer.up, x)))
