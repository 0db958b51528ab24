"""Multimodal pretraining in JAX: one Transformer, one trainer."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`multimodal.load`, imported when it is asked for: the package by itself needs nothing."""
    if name == "load":
        from multimodal.pretrained import load

        return load
    raise AttributeError(f"module 'multimodal' has no attribute {name!r}")
