"""Multimodal pretraining in JAX: one Transformer, one trainer."""

__version__ = "0.1.0"
