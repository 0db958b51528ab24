"""SigLIP 2: a dual encoder with a captioning decoder on its picture (Tschannen et al. 2025)."""

import jax
from flax import nnx

from multimodal import config
from multimodal.models.captioner import Captioner
from multimodal.models.dual_encoder import DualEncoder, normalise
from multimodal.models.layers import fold
from multimodal.parallel.rules import constrain
from multimodal.preprocessing import Preprocessing


class Siglip2(DualEncoder):
    """`config.Siglip2`: the decoder is for training alone; encoding is the dual encoder's.

    Inputs `image`, `text` and, where captions are predicted in parallel, `parallel` [batch].
    Outputs are the dual encoder's, `caption_features` [batch, length, width], whose row i is to
    predict token i, and `weights`, parameters that losses compare features with (no batch
    dimension): `caption` [vocab, width].
    """

    def __init__(
        self,
        settings: config.Siglip2,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(settings, preprocessing, dtype, rngs=rngs)
        image, text = settings.towers["image"], settings.towers["text"]
        width = image.transformer.width
        self.captioner = Captioner(
            settings.decoder, text.vocab_size, text.length, width, dtype, rngs=rngs
        )

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        image, text = self.towers["image"], self.towers["text"]
        picture = image(batch["image"], key=fold(key, 0))
        return {
            "image": constrain(normalise(picture["embedding"]), "batch", None),
            "text": self.encode("text", batch["text"], key=fold(key, 1)),
            "temperature": {pair: t() for pair, t in self.temperature.items()},
            "caption_features": self.captioner(
                batch["text"],
                picture["tokens"],
                parallel=batch.get("parallel"),
                key=fold(key, 2),
            ),
            "weights": {"caption": self.captioner.tokens.table[...]},
        }
