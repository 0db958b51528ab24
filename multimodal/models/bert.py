"""BERT: masked words and next sentences (Devlin et al. 2019), and its heads for others."""

import jax
import jax.numpy as jnp
from flax import nnx

from multimodal import config
from multimodal.models.embeddings import TokenEmbed
from multimodal.models.initializers import block_init, edge_init
from multimodal.models.layers import ACTIVATIONS, LayerNorm, Linear, parameter
from multimodal.models.rngs import Rngs
from multimodal.models.towers import LanguageTower
from multimodal.preprocessing import Preprocessing


class WordHead(nnx.Module):
    """Which word stood here: dense, GELU, norm, then the table of the words and a bias a word."""

    def __init__(self, settings: config.Transformer, vocab_size: int, *, rngs: Rngs):
        t, kernel = settings, block_init(settings).mlp_up.kernel
        self.dense = Linear(t.width, t.width, ("embed", None), kernel, rngs=rngs)
        self.norm = LayerNorm(t.width, t.norm_eps, rngs=rngs)
        self.bias = parameter(jax.nn.initializers.zeros, rngs, (vocab_size,), ("vocab",))

    def __call__(self, x: jax.Array, words: TokenEmbed) -> jax.Array:
        # [batch, length, embed] -> [batch, length, vocab], float32
        hidden = self.norm(ACTIVATIONS["gelu"](self.dense(x)))
        return words.logits(hidden) + self.bias[...]


class PairHead(nnx.Module):
    """Two classes of a whole sequence: tanh of a linear map of its first vector, then linear."""

    def __init__(self, settings: config.Transformer, *, rngs: Rngs):
        t, kernel = settings, block_init(settings).mlp_up.kernel
        self.pooler = Linear(t.width, t.width, ("embed", None), kernel, rngs=rngs)
        projection = edge_init(t.init, t.width).projection
        self.match = Linear(t.width, 2, ("embed", None), projection, rngs=rngs)

    def pool(self, x: jax.Array) -> jax.Array:
        # [batch, length, embed] -> [batch, embed]
        return jnp.tanh(self.pooler(x[:, 0]))

    def __call__(self, x: jax.Array) -> jax.Array:
        # [batch, length, embed] -> [batch, 2], float32
        return self.match(self.pool(x)).astype(jnp.float32)


class Bert(nnx.Module):
    """`config.Bert` over `text` [batch, length] and, where the batch has them, `text_types`: which
    of two segments a token belongs to.

    Outputs `word_logits` [batch, length, vocab] and `match_logits` [batch, 2], whose entry 0 says
    that the second segment follows the first.
    """

    def __init__(
        self,
        settings: config.Bert,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        text = settings.text
        self.text = LanguageTower(text, text.transformer.width, dtype, rngs=rngs)
        self.word_head = WordHead(text.transformer, text.vocab_size, rngs=rngs)
        self.pair_head = PairHead(text.transformer, rngs=rngs)

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        x = self.text(batch["text"], types=batch.get("text_types"), key=key)["tokens"]
        return {
            "word_logits": self.word_head(x, self.text.tokens),
            "match_logits": self.pair_head(x),
        }
