"""Other people's names for our parameters, as tables of `rows` that are read both ways."""

from multimodal.interop.big_vision import BIG_VISION_SIGLIP, BIG_VISION_VIT
from multimodal.interop.rows import (
    IMAGE,
    TEMPERATURE,
    TEXT,
    Layout,
    Row,
    block,
    in_projection,
    linear,
    norm,
)

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
    *block("text_model.encoder.layers.{i}", f"{TEXT}/stack", HUGGING_FACE_BLOCK),
    *norm("text_model.final_layer_norm", f"{TEXT}/final_norm"),
)
HUGGING_FACE_PATCHES = Row(
    "vision_model.embeddings.patch_embedding.weight", f"{IMAGE}/patches/linear/kernel", "patch"
)
HUGGING_FACE_IMAGE = (
    Row("vision_model.embeddings.position_embedding.weight", f"{IMAGE}/positions/position"),
    *block("vision_model.encoder.layers.{i}", f"{IMAGE}/stack", HUGGING_FACE_BLOCK),
    *norm("vision_model.post_layernorm", f"{IMAGE}/final_norm"),
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
        *norm("vision_model.pre_layrnorm", f"{IMAGE}/pre_norm"),
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
        *linear("text_model.head", f"{TEXT}/projection"),
        *HUGGING_FACE_IMAGE,
        Row("vision_model.embeddings.patch_embedding.bias", f"{IMAGE}/patches/linear/bias"),
        Row("vision_model.head.probe", f"{IMAGE}/pooler/probe", "one_less"),
        *in_projection(
            "vision_model.head.attention.in_proj", f"{IMAGE}/pooler/attention/query|key|value"
        ),
        *linear("vision_model.head.attention.out_proj", f"{IMAGE}/pooler/attention/out"),
        *norm("vision_model.head.layernorm", f"{IMAGE}/pooler/norm"),
        *linear("vision_model.head.mlp.fc1", f"{IMAGE}/pooler/mlp/up"),
        *linear("vision_model.head.mlp.fc2", f"{IMAGE}/pooler/mlp/down"),
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


def _clip(text: str) -> Layout:
    """CLIP with a ViT; the names of the text tower begin with `text`."""
    return Layout(
        (
            Row("visual.conv1.weight", f"{IMAGE}/patches/linear/kernel", "patch"),
            Row("visual.class_embedding", f"{IMAGE}/class_token/token", "one_more"),
            Row("visual.positional_embedding", f"{IMAGE}/positions/position"),
            *norm("visual.ln_pre", f"{IMAGE}/pre_norm"),
            *block("visual.transformer.resblocks.{i}", f"{IMAGE}/stack", OPENAI_BLOCK),
            *norm("visual.ln_post", f"{IMAGE}/final_norm"),
            Row("visual.proj", f"{IMAGE}/projection/kernel"),
            *_open_clip_text(text),
            Row(f"{text}text_projection", f"{TEXT}/projection/kernel"),
            Row("logit_scale", f"{TEMPERATURE}/scale"),
            Row("logit_bias", f"{TEMPERATURE}/bias"),
        ),
        ("input_resolution", "context_length", "vocab_size", f"{text}attn_mask"),
    )


def _open_clip_text(prefix: str) -> list[Row]:
    return [
        Row(f"{prefix}token_embedding.weight", f"{TEXT}/tokens/table"),
        Row(f"{prefix}positional_embedding", f"{TEXT}/positions/position"),
        *block(f"{prefix}transformer.resblocks.{{i}}", f"{TEXT}/stack", OPENAI_BLOCK),
        *norm(f"{prefix}ln_final", f"{TEXT}/final_norm"),
    ]


OPENAI_CLIP = _clip("")  # also open_clip's, but for those with
OPEN_CLIP_CUSTOM = _clip("text.")  # custom_text

OPEN_CLIP_SIGLIP = Layout(
    (
        Row("visual.trunk.patch_embed.proj.weight", f"{IMAGE}/patches/linear/kernel", "patch"),
        Row("visual.trunk.patch_embed.proj.bias", f"{IMAGE}/patches/linear/bias"),
        Row("visual.trunk.pos_embed", f"{IMAGE}/positions/position", "one_less"),
        *block(
            "visual.trunk.blocks.{i}",
            f"{IMAGE}/stack",
            {
                "attention_norm": "norm1",
                "attention/query|key|value": "attn.qkv",
                "attention/out": "attn.proj",
                "mlp_norm": "norm2",
                "mlp/up": "mlp.fc1",
                "mlp/down": "mlp.fc2",
            },
        ),
        *norm("visual.trunk.norm", f"{IMAGE}/final_norm"),
        Row("visual.trunk.attn_pool.latent", f"{IMAGE}/pooler/probe", "one_less"),
        *linear("visual.trunk.attn_pool.q", f"{IMAGE}/pooler/attention/query"),
        *linear("visual.trunk.attn_pool.kv", f"{IMAGE}/pooler/attention/key|value"),
        *linear("visual.trunk.attn_pool.proj", f"{IMAGE}/pooler/attention/out"),
        *norm("visual.trunk.attn_pool.norm", f"{IMAGE}/pooler/norm"),
        *linear("visual.trunk.attn_pool.mlp.fc1", f"{IMAGE}/pooler/mlp/up"),
        *linear("visual.trunk.attn_pool.mlp.fc2", f"{IMAGE}/pooler/mlp/down"),
        *_open_clip_text("text."),
        *linear("text.text_projection", f"{TEXT}/projection"),
        Row("logit_scale", f"{TEMPERATURE}/scale"),
        Row("logit_bias", f"{TEMPERATURE}/bias"),
    ),
    ("text.attn_mask",),
)

OPEN_CLIP_COCA = Layout(
    (
        Row("visual.conv1.weight", "image/patches/linear/kernel", "patch"),
        Row("visual.class_embedding", "image/class_token/token", "one_more"),
        Row("visual.positional_embedding", "image/positions/position"),
        *norm("visual.ln_pre", "image/pre_norm"),
        *block("visual.transformer.resblocks.{i}", "image/stack", OPENAI_BLOCK),
        Row("visual.attn_pool.query", "pool/pooler/queries"),
        Row("visual.attn_pool.attn.q_proj_weight", "pool/pooler/attention/query/kernel", "linear"),
        Row("visual.attn_pool.attn.k_proj_weight", "pool/pooler/attention/key/kernel", "linear"),
        Row("visual.attn_pool.attn.v_proj_weight", "pool/pooler/attention/value/kernel", "linear"),
        Row("visual.attn_pool.attn.in_proj_bias", "pool/pooler/attention/query|key|value/bias"),
        *linear("visual.attn_pool.attn.out_proj", "pool/pooler/attention/out"),
        *norm("visual.attn_pool.ln_q", "pool/pooler/query_norm"),
        *norm("visual.attn_pool.ln_k", "pool/pooler/norm"),
        *norm("visual.ln_post", "pool/norm"),
        Row("visual.proj", "image_projection/kernel"),
        Row("text.token_embedding.weight", "tokens/table"),
        Row("text.cls_emb", "class_token/token", "one_more"),
        Row("text.positional_embedding", "positions/position"),
        *block("text.transformer.resblocks.{i}", "unimodal", OPENAI_BLOCK),
        *norm("text.ln_final", "text_norm"),
        Row("text.text_projection", "text_projection/kernel"),
        *block(
            "text_decoder.resblocks.{i}",
            "multimodal",
            {f"own/{ours}": theirs for ours, theirs in OPENAI_BLOCK.items()},
        ),
        *block(
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
        *norm("text_decoder.ln_final", "norm"),
        Row("text_decoder.text_projection", "head/kernel"),
        Row("logit_scale", "temperature/scale"),
    )
)


def _vit(prefix: str, names: dict[str, str]) -> Layout:
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
            *block(prefix, f"{IMAGE}/stack", names),
            *norm("vit.layernorm", f"{IMAGE}/final_norm"),
            *linear("classifier", f"{IMAGE}/projection"),
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
        *norm("bert.embeddings.LayerNorm", "text/embedding_norm"),
        *block(
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
        *linear("bert.pooler.dense", "pair_head/pooler"),
        *linear("cls.predictions.transform.dense", "word_head/dense"),
        *norm("cls.predictions.transform.LayerNorm", "word_head/norm"),
        Row("cls.predictions.bias", "word_head/bias"),
        *linear("cls.seq_relationship", "pair_head/match"),
    ),
    ("bert.embeddings.position_ids",),
    {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)

LAYOUTS: dict[str, Layout] = {
    "big_vision_siglip": BIG_VISION_SIGLIP,
    "big_vision_vit": BIG_VISION_VIT,
    "huggingface_bert": HUGGING_FACE_BERT,
    "huggingface_clip": HUGGING_FACE_CLIP,
    "huggingface_siglip": HUGGING_FACE_SIGLIP,
    "huggingface_siglip2": HUGGING_FACE_SIGLIP2,
    "huggingface_vit": HUGGING_FACE_VIT,
    "huggingface_vit_5": HUGGING_FACE_VIT_5,
    "open_clip_coca": OPEN_CLIP_COCA,
    "open_clip_custom": OPEN_CLIP_CUSTOM,
    "open_clip_siglip": OPEN_CLIP_SIGLIP,
    "openai_clip": OPENAI_CLIP,
}
