"""A model by name or from a folder, with all that its input needs: `multimodal.load`."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image, ImageOps

from multimodal import config, zoo
from multimodal.checkpoint.saved import open_saved
from multimodal.data import images as pictures
from multimodal.data.patches import stack
from multimodal.data.tokenizers import Tokenizer, load_tokenizer, tokenizer_of
from multimodal.data.transforms import fit
from multimodal.errors import UserError
from multimodal.evaluation.classes import class_embeddings
from multimodal.evaluation.embed import Embedder
from multimodal.evaluation.prompts import prompt
from multimodal.evaluation.ranking import top
from multimodal.interop.config_json import differences
from multimodal.interop.convert import origins
from multimodal.interop.export import for_inference
from multimodal.interop.hub import fetch, is_hub_name
from multimodal.interop.source import open_source
from multimodal.models.build import Model, Params, build
from multimodal.parallel.mesh import make_mesh
from multimodal.parallel.rules import parameter_shardings
from multimodal.preprocessing import Preprocessing
from multimodal.schema import from_dict, nearest

# uint8 [height, width, 3] or grey [height, width], a file, the bytes of one, or an open picture.
Picture = np.ndarray | str | Path | bytes | Image.Image
_FAMILIES: dict[str, tuple[dict, Callable[..., dict]]] = {
    "clip": (zoo.CLIP, zoo.clip),
    "siglip": (zoo.SIGLIP, zoo.siglip),
    "siglip2": (zoo.SIGLIP2, zoo.siglip2),
    "coca": (zoo.COCA, zoo.coca),
}


class Classified(NamedTuple):
    """`labels` [pictures], the best class of each; `scores` [pictures, classes]: probabilities that
    add up to 1, or, of a model trained with a sigmoid loss, one for each class by itself."""

    labels: list[str]
    scores: np.ndarray


class Retrieved(NamedTuple):
    """Indices, the best first: of `images` for each text [texts, k], of `texts` for each picture
    [images, k]; and the cosines of all pairs, `scores` [images, texts]."""

    images: np.ndarray
    texts: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Pretrained:
    """A model with its parameters, preprocessing and tokenizer, ready to be asked. `tokenizer` is
    None where the source has none and none was given.

    Batches are filled up to the embedder's size, so that each tower is compiled once. Several
    devices share the parameters and the examples.
    """

    settings: config.Model
    tokenizer: Tokenizer | None
    embedder: Embedder

    @property
    def preprocessing(self) -> Preprocessing:
        return self.embedder.preprocessing

    @property
    def params(self) -> Params:
        """By path."""
        return self.embedder.params

    def encode_image(self, images: Picture | Sequence[Picture] | np.ndarray) -> np.ndarray:
        """Float32 [pictures, embed], of unit length: one picture or several, uint8 arrays [height,
        width, 3] or [pictures, height, width, 3], files, or PIL images. A classifier's are what its
        head reads, as they are; of an imported ViT they are the logits of its head, of unit length.
        Raises UserError, naming a picture that cannot be read."""
        return self._encode("image", images)

    def encode_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Float32 [texts, embed], of unit length. Raises UserError for a model without texts or
        without a tokenizer that suits it."""
        if self._text is None:
            raise UserError(f"a model of kind {self.settings.kind} does not encode texts")
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f"encode_text: {text!r} is no text")
        if not texts:
            raise UserError("encode_text: no text is given")
        self._check_tokenizer()
        return self.embedder.texts(texts)

    def classify(
        self,
        images: Picture | Sequence[Picture] | np.ndarray,
        classes: Sequence[str],
        templates: Sequence[str] = ("{}",),
    ) -> Classified:
        """Names of `classes` in every one of `templates`, whose `{}` the name replaces; a class is
        the mean of its prompts (Radford et al. 2021, section 3.1.4). Of a classifier, `classes` are
        its own, in their order. Raises UserError as the encoders do."""
        names = list(classes)
        if len(names) < 1 or isinstance(classes, str):
            raise UserError("classify: classes is a list of at least one name")
        if isinstance(self.settings, config.Classifier):
            if len(names) != self.settings.classes:
                raise UserError(
                    f"classify: {len(names)} classes, but the model has {self.settings.classes}"
                )
            logits = self._encode("class_logits", images).astype(np.float64)
            scores = _softmax(logits)
        elif isinstance(self.settings, config.DualEncoder) and self._text is None:
            raise UserError(
                f"classify: a model of kind {self.settings.kind} without texts has no classes to "
                "name; encode_image gives what it makes of a picture"
            )
        else:
            for template in templates:
                if "{}" not in template and "{c}" not in template:
                    raise UserError(f"classify: {template!r} has no {{}} for the name")
            prompts = [prompt(template, name) for name in names for template in templates]
            embedded = self.encode_text(prompts).reshape(len(names), len(templates), -1)
            scores = self._probabilities(self.encode_image(images) @ class_embeddings(embedded).T)
        return Classified([names[i] for i in scores.argmax(1)], scores)

    def retrieve(
        self,
        images: Picture | Sequence[Picture] | np.ndarray,
        texts: str | Sequence[str],
        k: int = 5,
    ) -> Retrieved:
        """The best `k` pictures for each text and the best `k` texts for each picture. Raises
        UserError as the encoders do."""
        if k < 1:
            raise UserError(f"retrieve: k={k} is not positive")
        seen, read = self.encode_image(images), self.encode_text(texts)
        scores = seen.astype(np.float64) @ read.astype(np.float64).T
        return Retrieved(top(read, seen, k)[0], top(seen, read, k)[0], scores)

    def _encode(self, output: str, images: Any) -> np.ndarray:
        found = _pictures(images)
        if not found:
            raise UserError("encode_image: no picture is given")

        def batches() -> Iterator[Any]:
            for start in range(0, len(found), self.embedder.rows):
                part = found[start : start + self.embedder.rows]
                ready = [fit(_pixels(x, start + i), self.preprocessing) for i, x in enumerate(part)]
                yield stack(ready + [None] * (self.embedder.rows - len(ready)), self.preprocessing)

        return self.embedder.encode(output, batches())[: len(found)]

    def _probabilities(self, cosines: np.ndarray) -> np.ndarray:
        scale, bias = _temperature(self.embedder.params)
        logits = cosines * math.exp(scale)
        return _softmax(logits) if bias is None else 1 / (1 + np.exp(-(logits + bias)))

    @property
    def _text(self) -> config.TextTower | None:
        """What encodes texts, if anything does."""
        if isinstance(self.settings, config.CoCa):
            return self.settings.text
        return getattr(self.settings, "towers", {}).get("text")

    def _check_tokenizer(self) -> None:
        if self.tokenizer is None:
            raise UserError("the source has no tokenizer; load(..., tokenizer=FILE)")
        text, size = self._text, self.tokenizer.vocab_size
        if size > text.vocab_size or (text.pooler == "end" and text.end_id >= size):
            raise UserError(
                f"the model has {text.vocab_size} tokens and ends a text with {text.end_id}, but "
                f"its tokenizer has {size}; give the right one by load(..., tokenizer=FILE)"
            )


def load(
    name_or_path: str | Path,
    checkpoint: str | Path | None = None,
    *,
    step: int | None = None,
    tokenizer: str | Path | None = None,
    batch_size: int = 64,
    random: bool = False,
) -> Pretrained:
    """Model, preprocessing and tokenizer in one call.

    `name_or_path`: a published model, such as "clip-vit-b32", whose parameters are those of
    `checkpoint`; or such a checkpoint itself. A checkpoint is a run folder, of which `step` is
    taken, the newest by default, or what `python -m multimodal.convert import` reads: a folder, a
    file, or OWNER/NAME of the hub, which have no steps. `random` draws the parameters of a
    published model instead. `tokenizer` replaces the checkpoint's; where there is neither, texts
    are refused.
    Raises UserError for an unknown name, a missing checkpoint, or one of another model.
    """
    named = published(str(name_or_path))
    if named is None:
        _check_path(name_or_path, checkpoint)
        checkpoint = name_or_path
    elif (checkpoint is None) != random:
        raise UserError(
            f"{name_or_path}: give checkpoint=PATH, a run folder or another's weights; or "
            "random=True, which draws parameters instead"
        )
    elif random and step is not None:
        raise UserError(f"step={step} is of a run folder, and random=True reads none; leave it out")
    opened = _drawn(*named) if checkpoint is None else _open(checkpoint, step)
    if named and checkpoint:
        _check_name(str(name_or_path), named[0], opened.settings, checkpoint)
    mesh = make_mesh({"data": 1, "fsdp": -1})
    preprocessing, model = opened.preprocessing, opened.model
    shapes = model.shapes()
    placed = parameter_shardings(model.axes, shapes, mesh)
    target = {
        path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed[path])
        for path, leaf in shapes.items()
    }
    reader = opened.tokenizer
    if tokenizer is not None:
        reader = load_tokenizer(str(tokenizer), preprocessing.pad_id)
    embedder = Embedder(model, opened.params(target), preprocessing, mesh, batch_size, reader)
    return Pretrained(opened.settings, reader, embedder)


class _Opened(NamedTuple):
    """A checkpoint whose parameters `params` reads, shaped and placed as it is told."""

    settings: config.Model
    preprocessing: Preprocessing
    model: Model
    tokenizer: Tokenizer | None
    params: Callable[[dict[str, jax.ShapeDtypeStruct]], Params]


def _open(checkpoint: str | Path, step: int | None) -> _Opened:
    path = Path(checkpoint).expanduser().absolute()
    if path.name.isdecimal() or (path / "checkpoints").is_dir():
        return _own(path, step)
    if step is not None:
        raise UserError(f"step={step} is of a run folder, and {checkpoint} is none; leave it out")
    return _theirs(fetch(str(checkpoint)) if is_hub_name(str(checkpoint)) else path)


def _own(path: Path, step: int | None) -> _Opened:
    saved = open_saved(path, step)
    p, settings = saved.preprocessing, saved.config.model
    model = build(settings, p, saved.config.dtype)
    return _Opened(settings, p, model, load_tokenizer(p.tokenizer, p.pad_id), saved.params)


def _theirs(path: Path) -> _Opened:
    source = open_source(path)
    p = source.preprocessing
    model = build(source.model, p, "float32")
    found = origins(source.layout, source.tensors, model)

    def params(target: dict[str, jax.ShapeDtypeStruct]) -> Params:
        return {
            path: jax.make_array_from_callback(leaf.shape, leaf.sharding, found[path].read)
            for path, leaf in target.items()
        }

    reader = tokenizer_of(*source.tokenizer, p.pad_id) if source.tokenizer else None
    return _Opened(source.model, p, model, reader, params)


def _drawn(settings: config.Model, p: Preprocessing) -> _Opened:
    model = build(settings, p, "float32")

    def params(target: dict[str, jax.ShapeDtypeStruct]) -> Params:
        placed = {path: leaf.sharding for path, leaf in target.items()}
        return jax.jit(model.init, out_shardings=placed)(jax.random.key(0))

    return _Opened(settings, p, model, None, params)


def _check_path(path: Any, checkpoint: Any) -> None:
    if checkpoint is not None:
        raise UserError(f"no published model {str(path)!r}{nearest(path, names())}")
    if not Path(path).expanduser().exists() and not is_hub_name(str(path)):
        raise UserError(
            f"{str(path)!r} is neither a folder nor a published model{nearest(path, names())}"
        )


def names() -> list[str]:
    """Of the published models, as `load` takes them."""
    return [
        f"{family}-{name}".lower() for family, (table, _) in _FAMILIES.items() for name in table
    ]


def published(name: str) -> tuple[config.Model, Preprocessing] | None:
    """Settings of a published model, whose hyphens and case do not matter; None for others."""
    for family, (table, settings) in _FAMILIES.items():
        for own in table:
            if _plain(f"{family}-{own}") == _plain(name):
                found = settings(own)
                values = {"name": "published", "tasks": {}, "model": found["model"]}
                model = from_dict(config.Config, values).model
                return model, from_dict(Preprocessing, found["preprocessing"], "preprocessing")
    return None


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _check_name(name: str, ours: config.Model, theirs: config.Model, where: Any) -> None:
    for path, wanted, found in differences(for_inference(ours), for_inference(theirs)):
        raise UserError(
            f"{where} is not {name}: {path}={found!r} there, and {wanted!r} in {name}; "
            "load it by its path alone"
        )


def _pictures(images: Any) -> list[Any]:
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    if isinstance(images, (np.ndarray, str, Path, bytes, Image.Image)):
        return [images]
    return list(images)


def _pixels(picture: Any, number: int) -> np.ndarray:
    """uint8 [height, width, 3]."""
    where = f"picture {number}"
    try:
        if isinstance(picture, (str, Path)):
            where = str(picture)
            picture = Path(picture).expanduser().read_bytes()
        if isinstance(picture, bytes):
            return pictures.decode(picture)
        if isinstance(picture, Image.Image):
            return pictures.from_pillow(ImageOps.exif_transpose(picture))
    except OSError as error:
        raise UserError(f"cannot read the picture {where}: {error.strerror or error}") from None
    except pictures.BrokenImage as error:
        raise UserError(f"{where}: {error}") from None
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=2)
        if picture.ndim == 3 and picture.shape[2] == 3 and picture.size:
            return picture
    told = getattr(picture, "dtype", type(picture).__name__), getattr(picture, "shape", "")
    raise UserError(
        f"{where} is {' '.join(map(str, told)).strip()}; a picture is a file, a PIL image, or a "
        "uint8 array [height, width, 3]"
    )


def _temperature(params: Params) -> tuple[float, float | None]:
    """Log of the scale, and the bias, by which pictures are compared with texts; CoCa has no other
    pair, and no name for it."""
    for pair in ("image-text", "text-image", ""):
        path = f"temperature/{pair}".rstrip("/")
        if f"{path}/scale" in params:
            bias = params.get(f"{path}/bias")
            return float(params[f"{path}/scale"]), None if bias is None else float(bias)
    raise UserError("classify: the model was not trained to compare images with texts")


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)
