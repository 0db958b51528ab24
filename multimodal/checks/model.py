"""What a model's parts ask of each other and of its preprocessing."""

from typing import Any

from multimodal import config as settings
from multimodal.checks.require import check_pair, divides, positive, require, share
from multimodal.config import Config, parts
from multimodal.preprocessing import Preprocessing


def check_model(config: Config) -> None:
    """Its parts, alone and with each other. Raises UserError."""
    model = config.model
    for path, part in parts(model):
        _check_part(part, path, config.preprocessing)
        if isinstance(part, settings.Transformer):
            _check_stack(part, path, config)
    if isinstance(model, settings.DualEncoder):
        _check_towers(model)
    if isinstance(model, settings.Classifier):
        _check_classifier(model)
    if isinstance(model, settings.CoCa):
        _check_captioner(model)
    if isinstance(model, settings.Siglip2):
        _check_siglip2(model)
    if isinstance(model, settings.PrefixLM):
        _check_gives_tokens(model.image, "image")
    if isinstance(model, settings.Bert):
        _check_gives_tokens(model.text, "text")


def _check_part(part: Any, path: str, preprocessing: Preprocessing) -> None:
    if isinstance(part, settings.Transformer):
        positive(part, path, "width", "heads", "mlp")
        require(part.depth >= 0, f"{path}.depth={part.depth}: must be 0, for no block, or more")
        divides(part, path, "heads", "width")
        for name in ("dropout", "attention_dropout", "drop_path"):
            share(part, path, name)
        return
    if isinstance(part, settings.ImageTower):
        divides(part, path, "patch_size", "image_size")
        share(part, path, "patch_dropout")
        _check_patches(part, path, preprocessing)
        require(
            part.pooler != "class" or part.class_token,
            f"{path}.pooler='class' needs {path}.class_token=True",
        )
    if isinstance(part, settings.Uniter):
        divides(part, path, "region_size", "image_size")
    for name in ("image_size", "length"):
        wanted = getattr(preprocessing, name)
        value = getattr(part, name, wanted)
        require(
            value == wanted,
            f"{path}.{name}={value} differs from config.preprocessing.{name}={wanted}",
        )


def _check_patches(image: settings.ImageTower, path: str, preprocessing: Preprocessing) -> None:
    most = image.max_patches
    positive(image, path, "max_patches")
    for name in ("max_patches", "patch_size"):
        ours, wanted = getattr(image, name), getattr(preprocessing, name)
        require(
            ours == wanted or (name == "patch_size" and most is None),
            f"{path}.{name}={ours} differs from config.preprocessing.{name}={wanted}",
        )
    if most is not None:
        for name in ("class_token", "patch_dropout"):
            require(
                not getattr(image, name),
                f"{path}.{name}={getattr(image, name)}: not with {path}.max_patches={most}",
            )


def _check_stack(stack: settings.Transformer, path: str, config: Config) -> None:
    model = config.model
    require(
        not stack.cross_attention or _reads_picture(stack, model),
        f"{path}.cross_attention=True: nothing is handed to it; only the decoder of coca and of "
        "siglip2 has it",
    )
    masked = isinstance(model, settings.PrefixLM | settings.Uniter | settings.Bert)
    masked |= isinstance(model, settings.Siglip2) and stack is model.decoder
    require(
        not (masked and stack.causal),
        f"{path}.causal=True: {model.kind} says itself who sees whom",
    )
    require(
        stack.attention in ("auto", "xla") or stack.attention_dropout == 0,
        f"{path}.attention={stack.attention!r} has no dropout; set {path}.attention_dropout=0",
    )
    if stack.attention == "cudnn":
        require(
            config.dtype == "bfloat16",
            f"{path}.attention='cudnn' computes in bfloat16; set config.dtype=bfloat16",
        )
        require(
            stack.width // stack.heads % 8 == 0,
            f"{path}.attention='cudnn' needs width / heads = {stack.width // stack.heads} to be a "
            "multiple of 8",
        )


def _reads_picture(stack: settings.Transformer, model: settings.Model) -> bool:
    return isinstance(model, settings.CoCa | settings.Siglip2) and stack is model.decoder


def _check_gives_tokens(tower: settings.ImageTower | settings.TextTower, where: str) -> None:
    """The tower's own pooler and projection would be made and never used."""
    for name in ("pooler", "projection"):
        require(
            getattr(tower, name) == "none",
            f"config.model.{where}.{name}={getattr(tower, name)!r}: this model reads the {where}'s "
            "tokens; set it to 'none'",
        )
    require(
        getattr(tower, "max_patches", None) is None,
        f"config.model.{where}.max_patches: this model wants as many tokens of each picture",
    )


def _check_towers(model: settings.DualEncoder) -> None:
    positive(model, "config.model", "embed")
    for name, tower in model.towers.items():
        where = f"config.model.towers.{name}"
        if isinstance(tower, settings.Precomputed):
            _check_precomputed(tower, model.embed, where)
            continue
        require(tower.pooler != "none", f"{where}.pooler='none': a pair compares pooled towers")
        require(
            tower.projection != "none" or tower.transformer.width == model.embed,
            f"{where}.transformer.width={tower.transformer.width} differs from "
            f"config.model.embed={model.embed} and {where}.projection='none'",
        )
    for pair in model.pairs:
        check_pair(pair, model, "config.model.pairs")


def _check_precomputed(tower: settings.Precomputed, embed: int, where: str) -> None:
    positive(tower, where, "width")
    require(where.endswith(".image"), f"{where}.kind='precomputed': only the tower image can be")
    require(
        tower.projection != "none" or tower.width == embed,
        f"{where}.width={tower.width} differs from config.model.embed={embed} and "
        f"{where}.projection='none'",
    )


def _check_classifier(model: settings.Classifier) -> None:
    require(
        tuple(model.towers) == ("image",),
        f"config.model.towers={', '.join(model.towers)}: a classifier has one tower, image",
    )
    require(model.classes > 1, f"config.model.classes={model.classes}: at least two")
    tower, where = model.towers["image"], "config.model.towers.image"
    require(tower.pooler != "none", f"{where}.pooler='none': a classifier reads a pooled tower")
    require(
        tower.projection == "none",
        f"{where}.projection={tower.projection!r}: a classifier's head is its projection; set it "
        "to 'none'",
    )


def _check_captioner(model: settings.CoCa) -> None:
    positive(model, "config.model", "embed", "queries", "pooler_heads")
    _check_gives_tokens(model.image, "image")
    text, decoder = model.text.transformer, model.decoder
    open_clip = model.form == "open_clip"
    pooled = "decoder" if open_clip else "image.transformer"
    width = (decoder if open_clip else model.image.transformer).width
    for where, stack in (("text.transformer", text), ("decoder", decoder)):
        require(
            stack.causal,
            f"config.model.{where}.causal=False: each token would see the one that it predicts",
        )
    require(
        text.width == decoder.width,
        f"config.model.text.transformer.width={text.width} differs from "
        f"config.model.decoder.width={decoder.width}, through which the text goes on",
    )
    require(
        width % model.pooler_heads == 0,
        f"config.model.pooler_heads={model.pooler_heads} does not divide "
        f"config.model.{pooled}.width={width}",
    )
    if open_clip:
        require(
            model.queries > 1,
            f"config.model.queries={model.queries}: the first is for contrast, the captions need "
            "at least one more",
        )
        require(
            decoder.norm_position == "pre",
            "config.model.decoder.norm_position='post': config.model.form='open_clip' has no such",
        )
    require(
        model.decoder.cross_attention,
        "config.model.decoder.cross_attention=False: it is how the decoder sees the image",
    )


def _check_siglip2(model: settings.Siglip2) -> None:
    kinds = {name: tower.kind for name, tower in model.towers.items()}
    require(
        kinds == {"image": "image", "text": "text"},
        f"config.model.towers={', '.join(kinds)}: siglip2 has the two towers image and text",
    )
    require(
        model.decoder.cross_attention,
        "config.model.decoder.cross_attention=False: it is how the decoder sees the image",
    )
