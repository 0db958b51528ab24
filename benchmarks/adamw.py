"""PyTorch's optimiser with the settings of a run of ours."""

import torch

from multimodal.config import Config


def adamw(model: torch.nn.Module, config: Config) -> torch.optim.AdamW:
    """Fused; as in open_clip, gains, biases and single vectors do not decay."""
    s, decayed, rest = config.optimizer, [], []
    for name, parameter in model.named_parameters():
        plain = parameter.ndim > 1 and not name.endswith("token")
        (decayed if plain else rest).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": s.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, s.learning_rate, (s.beta1, s.beta2), s.eps, fused=True)
