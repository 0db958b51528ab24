"""Other people's names for our parameters, as tables that are read both ways.

A row is (their tensor, our path, transform of `convert.TRANSFORMS`). `{i}` in their name counts
layers, which are stacked in our parameter. `query|key|value` in our path stands for three
parameters that are one tensor there, one after the other along its first axis.
"""

from typing import NamedTuple


class Row(NamedTuple):
    theirs: str
    ours: str
    transform: str = "as_is"

    @property
    def paths(self) -> list[str]:
        """Our parameters in the order in which their tensor holds them."""
        parts = [part.split("|") for part in self.ours.split("/")]
        count = max(map(len, parts))
        return ["/".join(p[min(k, len(p) - 1)] for p in parts) for k in range(count)]


class Layout(NamedTuple):
    """A table. `ignored` tensors are no weights (position ids, sizes). `tied` ones are copies of
    others: they may be there and are not written. `older` are endings of names as earlier files
    have them, which are read and not written."""

    rows: tuple[Row, ...]
    ignored: tuple[str, ...] = ()
    tied: dict[str, str] = {}
    older: dict[str, str] = {}

    def today(self, name: str) -> str:
        """The name that a tensor of an earlier file has now."""
        for old, new in self.older.items():
            if name.endswith(old):
                return name.removesuffix(old) + new
        return name


def _linear(theirs: str, ours: str) -> list[Row]:
    return [
        Row(f"{theirs}.weight", f"{ours}/kernel", "linear"),
        Row(f"{theirs}.bias", f"{ours}/bias"),
    ]


def _norm(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}.weight", f"{ours}/scale"), Row(f"{theirs}.bias", f"{ours}/bias")]


def _block(prefix: str, ours: str, names: dict[str, str]) -> list[Row]:
    """Rows of the stack at `ours`, whose parts have the `names` under `prefix`, by our name."""
    rows = []
    for part, theirs in names.items():
        theirs, path = f"{prefix}.{theirs}", f"{ours}/blocks/{part}"
        if part.endswith("norm"):
            rows += _norm(theirs, path)
        elif "|" in part:
            rows += _in_projection(theirs, path)
        else:
            rows += _linear(theirs, path)
    return rows


def _in_projection(theirs: str, ours: str) -> list[Row]:
    return [
        Row(f"{theirs}_weight", f"{ours}/kernel", "linear"),
        Row(f"{theirs}_bias", f"{ours}/bias"),
    ]


IMAGE, TEXT = "towers/image", "towers/text"
TEMPERATURE = "temperature/image-text"

HUGGING_FACE_BLOCK = {
    "attention_norm": "layer_norm1",
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/out": "self_attn.out_proj",
    "mlp_norm": "layer_norm2",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
}
HUGGING_FACE_TEXT = (
    Row("text_model.embeddings.token_embedding.weight", f"{TEXT}/tokens/table"),
    Row("text_model.embeddings.position_embedding.weight", f"{TEXT}/positions/position"),
    *_block("text_model.encoder.layers.{i}", f"{TEXT}/stack", HUGGING_FACE_BLOCK),
    *_norm("text_model.final_layer_norm", f"{TEXT}/final_norm"),
)
HUGGING_FACE_PATCHES = Row(
    "vision_model.embeddings.patch_embedding.weight", f"{IMAGE}/patches/linear/kernel", "patch"
)
HUGGING_FACE_IMAGE = (
    Row("vision_model.embeddings.position_embedding.weight", f"{IMAGE}/positions/position"),
    *_block("vision_model.encoder.layers.{i}", f"{IMAGE}/stack", HUGGING_FACE_BLOCK),
    *_norm("vision_model.post_layernorm", f"{IMAGE}/final_norm"),
)
HUGGING_FACE_BUFFERS = (
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
)

HUGGING_FACE_CLIP = Layout(
    (
        *HUGGING_FACE_TEXT,
        HUGGING_FACE_PATCHES,
        *HUGGING_FACE_IMAGE,
        Row("vision_model.embeddings.class_embedding", f"{IMAGE}/class_token/token", "one_more"),
        *_norm("vision_model.pre_layrnorm", f"{IMAGE}/pre_norm"),
        Row("visual_projection.weight", f"{IMAGE}/projection/kernel", "linear"),
        Row("text_projection.weight", f"{TEXT}/projection/kernel", "linear"),
        Row("logit_scale", f"{TEMPERATURE}/scale"),
    ),
    HUGGING_FACE_BUFFERS,
)

HUGGING_FACE_SIGLIP = Layout(
    (
        HUGGING_FACE_PATCHES,
        *HUGGING_FACE_TEXT,
        *_linear("text_model.head", f"{TEXT}/projection"),
        *HUGGING_FACE_IMAGE,
        Row("vision_model.embeddings.patch_embedding.bias", f"{IMAGE}/patches/linear/bias"),
        Row("vision_model.head.probe", f"{IMAGE}/pooler/probe", "one_less"),
        *_in_projection(
            "vision_model.head.attention.in_proj", f"{IMAGE}/pooler/attention/query|key|value"
        ),
        *_linear("vision_model.head.attention.out_proj", f"{IMAGE}/pooler/attention/out"),
        *_norm("vision_model.head.layernorm", f"{IMAGE}/pooler/norm"),
        *_linear("vision_model.head.mlp.fc1", f"{IMAGE}/pooler/mlp/up"),
        *_linear("vision_model.head.mlp.fc2", f"{IMAGE}/pooler/mlp/down"),
        Row("logit_scale", f"{TEMPERATURE}/scale", "one_less"),
        Row("logit_bias", f"{TEMPERATURE}/bias", "one_less"),
    ),
    HUGGING_FACE_BUFFERS,
)

# NaFlex: patches come cut, so that theirs is a linear map too.
HUGGING_FACE_SIGLIP2 = HUGGING_FACE_SIGLIP._replace(
    rows=(HUGGING_FACE_PATCHES._replace(transform="linear"), *HUGGING_FACE_SIGLIP.rows[1:])
)

OPENAI_BLOCK = {
    "attention_norm": "ln_1",
    "attention/query|key|value": "attn.in_proj",
    "attention/out": "attn.out_proj",
    "mlp_norm": "ln_2",
    "mlp/up": "mlp.c_fc",
    "mlp/down": "mlp.c_proj",
}
# Also the layout of open_clip's own models.
OPENAI_CLIP = Layout(
    (
        Row("visual.conv1.weight", f"{IMAGE}/patches/linear/kernel", "patch"),
        Row("visual.class_embedding", f"{IMAGE}/class_token/token", "one_more"),
        Row("visual.positional_embedding", f"{IMAGE}/positions/position"),
        *_norm("visual.ln_pre", f"{IMAGE}/pre_norm"),
        *_block("visual.transformer.resblocks.{i}", f"{IMAGE}/stack", OPENAI_BLOCK),
        *_norm("visual.ln_post", f"{IMAGE}/final_norm"),
        Row("visual.proj", f"{IMAGE}/projection/kernel"),
        Row("token_embedding.weight", f"{TEXT}/tokens/table"),
        Row("positional_embedding", f"{TEXT}/positions/position"),
        *_block("transformer.resblocks.{i}", f"{TEXT}/stack", OPENAI_BLOCK),
        *_norm("ln_final", f"{TEXT}/final_norm"),
        Row("text_projection", f"{TEXT}/projection/kernel"),
        Row("logit_scale", f"{TEMPERATURE}/scale"),
    ),
    ("input_resolution", "context_length", "vocab_size"),
)

OPEN_CLIP_COCA = Layout(
    (
        Row("visual.conv1.weight", "image/patches/linear/kernel", "patch"),
        Row("visual.class_embedding", "image/class_token/token", "one_more"),
        Row("visual.positional_embedding", "image/positions/position"),
        *_norm("visual.ln_pre", "image/pre_norm"),
        *_block("visual.transformer.resblocks.{i}", "image/stack", OPENAI_BLOCK),
        Row("visual.attn_pool.query", "pool/pooler/queries"),
        Row("visual.attn_pool.attn.q_proj_weight", "pool/pooler/attention/query/kernel", "linear"),
        Row("visual.attn_pool.attn.k_proj_weight", "pool/pooler/attention/key/kernel", "linear"),
        Row("visual.attn_pool.attn.v_proj_weight", "pool/pooler/attention/value/kernel", "linear"),
        Row("visual.attn_pool.attn.in_proj_bias", "pool/pooler/attention/query|key|value/bias"),
        *_linear("visual.attn_pool.attn.out_proj", "pool/pooler/attention/out"),
        *_norm("visual.attn_pool.ln_q", "pool/pooler/query_norm"),
        *_norm("visual.attn_pool.ln_k", "pool/pooler/norm"),
        *_norm("visual.ln_post", "pool/norm"),
        Row("visual.proj", "image_projection/kernel"),
        Row("text.token_embedding.weight", "tokens/table"),
        Row("text.cls_emb", "class_token/token", "one_more"),
        Row("text.positional_embedding", "positions/position"),
        *_block("text.transformer.resblocks.{i}", "unimodal", OPENAI_BLOCK),
        *_norm("text.ln_final", "text_norm"),
        Row("text.text_projection", "text_projection/kernel"),
        *_block(
            "text_decoder.resblocks.{i}",
            "multimodal",
            {f"own/{ours}": theirs for ours, theirs in OPENAI_BLOCK.items()},
        ),
        *_block(
            "text_decoder.cross_attn.{i}",
            "multimodal",
            {
                "cross_norm": "ln_1",
                "context_norm": "ln_1_kv",
                "cross/query|key|value": "attn.in_proj",
                "cross/out": "attn.out_proj",
                "mlp_norm": "ln_2",
                "mlp/up": "mlp.c_fc",
                "mlp/down": "mlp.c_proj",
            },
        ),
        *_norm("text_decoder.ln_final", "norm"),
        Row("text_decoder.text_projection", "head/kernel"),
        Row("logit_scale", "temperature/scale"),
    )
)


def _vit(prefix: str, block: dict[str, str]) -> Layout:
    embeddings = "vit.embeddings"
    return Layout(
        (
            Row(f"{embeddings}.cls_token", f"{IMAGE}/class_token/token", "one_less"),
            Row(f"{embeddings}.position_embeddings", f"{IMAGE}/positions/position", "one_less"),
            Row(
                f"{embeddings}.patch_embeddings.projection.weight",
                f"{IMAGE}/patches/linear/kernel",
                "patch",
            ),
            Row(f"{embeddings}.patch_embeddings.projection.bias", f"{IMAGE}/patches/linear/bias"),
            *_block(prefix, f"{IMAGE}/stack", block),
            *_norm("vit.layernorm", f"{IMAGE}/final_norm"),
            *_linear("classifier", f"{IMAGE}/projection"),
        )
    )


# As in the files on the hub.
HUGGING_FACE_VIT = _vit(
    "vit.encoder.layer.{i}",
    {
        "attention_norm": "layernorm_before",
        "attention/query": "attention.attention.query",
        "attention/key": "attention.attention.key",
        "attention/value": "attention.attention.value",
        "attention/out": "attention.output.dense",
        "mlp_norm": "layernorm_after",
        "mlp/up": "intermediate.dense",
        "mlp/down": "output.dense",
    },
)
# As transformers 5 names them in memory.
HUGGING_FACE_VIT_5 = _vit(
    "vit.layers.{i}",
    {
        "attention_norm": "layernorm_before",
        "attention/query": "attention.q_proj",
        "attention/key": "attention.k_proj",
        "attention/value": "attention.v_proj",
        "attention/out": "attention.o_proj",
        "mlp_norm": "layernorm_after",
        "mlp/up": "mlp.fc1",
        "mlp/down": "mlp.fc2",
    },
)

HUGGING_FACE_BERT = Layout(
    (
        Row("bert.embeddings.word_embeddings.weight", "text/tokens/table"),
        Row("bert.embeddings.position_embeddings.weight", "text/positions/position"),
        Row("bert.embeddings.token_type_embeddings.weight", "text/types"),
        *_norm("bert.embeddings.LayerNorm", "text/embedding_norm"),
        *_block(
            "bert.encoder.layer.{i}",
            "text/stack",
            {
                "attention/query": "attention.self.query",
                "attention/key": "attention.self.key",
                "attention/value": "attention.self.value",
                "attention/out": "attention.output.dense",
                "attention_norm": "attention.output.LayerNorm",
                "mlp/up": "intermediate.dense",
                "mlp/down": "output.dense",
                "mlp_norm": "output.LayerNorm",
            },
        ),
        *_linear("bert.pooler.dense", "pair_head/pooler"),
        *_linear("cls.predictions.transform.dense", "word_head/dense"),
        *_norm("cls.predictions.transform.LayerNorm", "word_head/norm"),
        Row("cls.predictions.bias", "word_head/bias"),
        *_linear("cls.seq_relationship", "pair_head/match"),
    ),
    ("bert.embeddings.position_ids",),
    {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)

LAYOUTS: dict[str, Layout] = {
    "huggingface_bert": HUGGING_FACE_BERT,
    "huggingface_clip": HUGGING_FACE_CLIP,
    "huggingface_siglip": HUGGING_FACE_SIGLIP,
    "huggingface_siglip2": HUGGING_FACE_SIGLIP2,
    "huggingface_vit": HUGGING_FACE_VIT,
    "huggingface_vit_5": HUGGING_FACE_VIT_5,
    "open_clip_coca": OPEN_CLIP_COCA,
    "openai_clip": OPENAI_CLIP,
}
