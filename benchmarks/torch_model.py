"""CLIP and SigLIP in plain PyTorch, put together as open_clip does: float32 parameters, one product
for query, key and value, scaled_dot_product_attention.

Modules are called as ours are, so that ours can be loaded.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from multimodal.config import DualEncoder, ImageTower, TextTower, Transformer

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


class LayerNorm(nn.LayerNorm):
    """In float32 under autocast, given back as it came."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, probe: torch.Tensor | None = None) -> torch.Tensor:
        if probe is None:
            q, k, v = self.qkv(x).chunk(3, -1)
        else:
            width = x.shape[-1]
            weight, bias = self.qkv.weight, self.qkv.bias
            q = F.linear(probe, weight[:width], bias[:width])
            k, v = F.linear(x, weight[width:], bias[width:]).chunk(2, -1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, t: Transformer):
        super().__init__()
        self.up, self.down = nn.Linear(t.width, t.mlp), nn.Linear(t.mlp, t.width)
        self.activation = ACTIVATIONS[t.activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    def __init__(self, t: Transformer):
        super().__init__()
        self.attention_norm = LayerNorm(t.width, t.norm_eps)
        self.attention = Attention(t.width, t.heads, t.causal)
        self.mlp_norm = LayerNorm(t.width, t.norm_eps)
        self.mlp = Mlp(t)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Table(nn.Module):
    """A parameter by the name that it has with us."""

    def __init__(self, name: str, *shape: int):
        super().__init__()
        self.register_parameter(name, nn.Parameter(0.02 * torch.randn(shape)))


class MapPooler(nn.Module):
    def __init__(self, t: Transformer):
        super().__init__()
        self.probe = nn.Parameter(0.02 * torch.randn(1, t.width))
        self.attention = Attention(t.width, t.heads)
        self.norm, self.mlp = LayerNorm(t.width, t.norm_eps), Mlp(t)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(x, self.probe.expand(len(x), 1, -1))
        return (y + self.mlp(self.norm(y)))[:, 0]


def _projection(kind: str, width: int, embed: int) -> nn.Module:
    return nn.Identity() if kind == "none" else nn.Linear(width, embed, kind == "linear_bias")


class VisionTower(nn.Module):
    def __init__(self, s: ImageTower, embed: int):
        super().__init__()
        t, p = s.transformer, s.patch_size
        self.patches = nn.ModuleDict(
            {"linear": nn.Conv2d(3, t.width, p, stride=p, bias=s.patch_bias)}
        )
        length = (s.image_size // p) ** 2 + s.class_token
        self.class_token = Table("token", 1, t.width) if s.class_token else None
        self.positions = Table("position", length, t.width)
        self.pre_norm = LayerNorm(t.width, t.norm_eps) if s.pre_norm else nn.Identity()
        self.stack = nn.Sequential(*[Block(t) for _ in range(t.depth)])
        self.final_norm = LayerNorm(t.width, t.norm_eps)
        self.pooler = MapPooler(t) if s.pooler == "map" else None
        self.projection = _projection(s.projection, t.width, embed)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches["linear"](images).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.token.to(x.dtype).expand(len(x), 1, -1), x], 1)
        x = self.stack(self.pre_norm(x + self.positions.position.to(x.dtype)))
        pooled = self.pooler(self.final_norm(x)) if self.pooler else self.final_norm(x[:, 0])
        return self.projection(pooled)


class LanguageTower(nn.Module):
    def __init__(self, s: TextTower, embed: int, dtype: torch.dtype):
        super().__init__()
        t = s.transformer
        self.dtype = dtype
        self.end_id, self.last = s.end_id, s.pooler == "last"
        self.tokens = Table("table", s.vocab_size, t.width)
        self.positions = Table("position", s.length, t.width)
        self.stack = nn.Sequential(*[Block(t) for _ in range(t.depth)])
        self.final_norm = LayerNorm(t.width, t.norm_eps)
        self.projection = _projection(s.projection, t.width, embed)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = F.embedding(ids, self.tokens.table) + self.positions.position
        x = self.stack(x.to(self.dtype))
        if self.last:
            x = x[:, -1]
        else:
            x = x[torch.arange(len(x), device=x.device), (ids == self.end_id).int().argmax(-1)]
        return self.projection(self.final_norm(x))


class Clip(nn.Module):
    """The contrastive loss of a batch, SigLIP's where the settings have a bias of the logits; what
    passes between blocks is of `dtype`."""

    def __init__(self, s: DualEncoder, dtype: torch.dtype):
        super().__init__()
        self.image = VisionTower(s.towers["image"], s.embed)
        self.text = LanguageTower(s.towers["text"], s.embed, dtype)
        self.scale = nn.Parameter(torch.tensor(float(s.logit_scale_init)))
        sigmoid = s.logit_bias_init is not None
        self.bias = nn.Parameter(torch.tensor(float(s.logit_bias_init))) if sigmoid else None

    def forward(self, images: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        a, b = (F.normalize(x.float(), dim=-1) for x in (self.image(images), self.text(ids)))
        logits = self.scale.exp() * a @ b.T
        labels = torch.arange(len(a), device=a.device)
        if self.bias is None:
            return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        signs = 2 * torch.eye(len(a), device=a.device) - 1
        return -F.logsigmoid(signs * (logits + self.bias)).sum() / len(a)


def load(model: Clip, params: dict[str, np.ndarray]) -> None:
    """Our parameters, by path, into the model. Raises RuntimeError for what does not fit."""
    found: dict[str, torch.Tensor] = {}
    for path, value in params.items():
        name = path.replace("towers/", "").replace("temperature/image-text/", "")
        name = name.replace("kernel", "weight").replace("norm/scale", "norm/weight")
        layers = [(name, value)]
        if "/blocks/" in name:
            layers = [(name.replace("blocks", str(i)), x) for i, x in enumerate(value)]
        for key, x in layers:
            x = torch.from_numpy(np.array(x))
            if "patches/linear/weight" in key:
                p = math.isqrt(len(x) // 3)
                x = x.T.unflatten(1, (p, p, 3)).permute(0, 3, 1, 2)
            elif key.endswith("weight") and x.ndim == 2:
                x = x.T
            found[key.replace("/", ".")] = x
    for key in [key for key in found if ".query." in key]:
        parts = [found.pop(key.replace("query", name)) for name in ("query", "key", "value")]
        found[key.replace("query", "qkv")] = torch.cat(parts)
    model.load_state_dict(found)
