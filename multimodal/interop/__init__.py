"""Other people's checkpoints in and out."""

from multimodal.interop.convert import export_weights, import_weights
from multimodal.interop.layouts import LAYOUTS
from multimodal.interop.settings import SETTINGS

__all__ = ["LAYOUTS", "SETTINGS", "export_weights", "import_weights"]
