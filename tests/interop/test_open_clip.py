"""open_clip's own models come in with the embeddings that they have there, go on to transformers,
and what is exported for open_clip is loaded by it. Collected where all three are installed."""

import json

import jax
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from multimodal.convert import import_checkpoint
from multimodal.data.tokenizers import load_tokenizer, tokenize
from multimodal.data.transforms import fit
from multimodal.evaluate import restore
from multimodal.interop.comparison import compare
from multimodal.interop.export import export_model
from tests.goldens.agreement import highest
from tests.interop.models import clip_tokenizer, small
from tests.toy import replace

pytestmark = pytest.mark.torch
CLOSE = 1e-5
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
WORDS = {"context_length": 16, "vocab_size": 548, "width": 24, "heads": 3, "layers": 2}


@pytest.mark.parametrize("quick", [False, True])
def test_embeddings_from_open_clip_to_us_to_transformers(tmp_path, quick):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    clip_tokenizer(theirs)
    model_cfg = {"embed_dim": 20, "quick_gelu": quick, "vision_cfg": VISION, "text_cfg": WORDS}
    told = {"model_cfg": model_cfg, "preprocess_cfg": {}}
    (theirs / "open_clip_config.json").write_text(json.dumps(told))
    torch.manual_seed(0)
    model = open_clip.CLIP(**model_cfg).eval()
    torch.save(model.state_dict(), theirs / "open_clip_pytorch_model.bin")

    import_checkpoint(theirs, tmp_path / "run")
    run, params, _ = restore(tmp_path / "run")
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(3, 32, 32, 3)).astype(np.float32)
    text = rng.integers(0, 547, (3, 16)).astype(np.int32)
    text[:, 9] = 547
    with highest():
        found = jax.jit(lambda p: run.model.bind(p)({"image": pixels, "text": text}))(params)
    with torch.no_grad():
        images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        wanted = {
            "image": model.encode_image(images, normalize=True),
            "text": model.encode_text(torch.from_numpy(text.astype(np.int64)), normalize=True),
        }
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=0, atol=CLOSE, err_msg=name)

    out = tmp_path / "hf"
    told = export_model(run.config.model, run.config.preprocessing, jax.device_get(params), out)
    assert max(compare(told, run.config.preprocessing, out).values()) <= CLOSE


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("pooler", ["end", "argmax"])
def test_an_exported_folder_in_open_clip(tmp_path, act, pooler):
    settings, p, params = small("clip", clip_tokenizer(tmp_path), act)
    settings, out = replace(settings, towers__text__pooler=pooler), tmp_path / "out"
    told = export_model(settings, p, params, out, to="open_clip")
    assert max(compare(told, p, out).values()) <= CLOSE

    texts = ["A photo of a CAT!", "two dogs", ""]
    ids = open_clip.get_tokenizer(f"local-dir:{out}")(texts).numpy()
    np.testing.assert_array_equal(ids, tokenize(texts, p, load_tokenizer(p.tokenizer)))
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{out}")
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    pixels = transform(Image.fromarray(photo)).numpy().transpose(1, 2, 0)
    difference = (pixels * np.array(p.std) + np.array(p.mean)) * 255 - fit(photo, p)
    assert np.abs(difference).mean() <= 1
