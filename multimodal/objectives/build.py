"""From settings to objectives, by one table."""

from multimodal import config
from multimodal.objectives.classification import Classification
from multimodal.objectives.distillation import MaskedPatches, SelfDistillation
from multimodal.objectives.imitation import Distillation
from multimodal.objectives.matching import Matching
from multimodal.objectives.objective import Objective, Vocabulary
from multimodal.objectives.pairs import ContrastivePair
from multimodal.objectives.tokens import Captioning, DecoderCaptioning, MaskedLanguage

OBJECTIVES = {
    config.Contrastive: ContrastivePair,
    config.Classification: Classification,
    config.Captioning: Captioning,
    config.DecoderCaptioning: DecoderCaptioning,
    config.MaskedLanguage: MaskedLanguage,
    config.Matching: Matching,
    config.SelfDistillation: SelfDistillation,
    config.MaskedPatches: MaskedPatches,
    config.Distillation: Distillation,
}


def build(settings: dict[str, config.Objective], vocabulary: Vocabulary) -> dict[str, Objective]:
    """The objectives of one task, by the names that the recipe gives them."""
    return {name: OBJECTIVES[type(s)](s, vocabulary) for name, s in settings.items()}
