"""The settings of a run: frozen dataclasses with defaults.

Every recipe in `configs/` fills in a part of `Config`; `from_dict(Config, ...)` refuses the rest,
and `multimodal/checks` what does not go together.
"""

from multimodal.config.data import (
    ArrayRecords,
    Data,
    Folder,
    Holdout,
    HuggingFace,
    Mixture,
    Parquet,
    Part,
    Scenes,
    Source,
    Tags,
    Tar,
    Tfds,
)
from multimodal.config.evaluator import (
    KNN,
    Accuracy,
    Evaluator,
    LinearProbe,
    Retrieval,
    ZeroShot,
)
from multimodal.config.model import (
    Activation,
    Bert,
    Classifier,
    CoCa,
    DualEncoder,
    Heads,
    ImageTower,
    Keep,
    Model,
    Precomputed,
    PrefixLM,
    Siglip2,
    TextTower,
    Transformer,
    Uniter,
    entries,
)
from multimodal.config.objective import (
    Captioning,
    Classification,
    Contrastive,
    DecoderCaptioning,
    Distillation,
    MaskedLanguage,
    MaskedPatches,
    Matching,
    Objective,
    SelfDistillation,
)
from multimodal.config.run import Config, Start, Task, parts, with_stacks
from multimodal.config.training import Checkpoints, Lora, MeshShape, Optimizer, Rule
from multimodal.schema import from_dict, to_dict
