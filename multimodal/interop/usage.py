"""How an exported folder is used, for its model card."""

from multimodal.preprocessing import Preprocessing

_PAIR = """```python
from transformers import AutoModel, AutoProcessor

processor = AutoProcessor.from_pretrained("FOLDER")
model = AutoModel.from_pretrained("FOLDER")
inputs = processor(
    images=[image], text=["a photo of a cat"], padding="max_length", truncation=True,
    max_length=LENGTH, return_tensors="pt",
)
logits = model(**inputs).logits_per_image
```
"""
_CLIP = """
`pipeline("zero-shot-image-classification", model="FOLDER")` and
`CLIPTextModelWithProjection.from_pretrained("FOLDER")` work too.
"""
_SIGLIP = """
Texts are always filled up to LENGTH tokens, without an attention mask, as in training.
"""
_VIT = """```python
from transformers import pipeline

pipeline("image-classification", model="FOLDER")("picture.jpg")
```
"""
_BERT = """```python
from transformers import AutoModelForPreTraining, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForPreTraining.from_pretrained("FOLDER")
logits = model(**tokenizer("a text", return_tensors="pt")).prediction_logits
```
"""
_OPEN_CLIP = """```python
import open_clip

model, preprocess = open_clip.create_model_from_pretrained("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
```
"""
_USAGE = {
    "huggingface_clip": _PAIR + _CLIP,
    "huggingface_siglip": _PAIR + _SIGLIP,
    "huggingface_siglip2": _PAIR + _SIGLIP,
    "huggingface_vit": _VIT,
    "huggingface_bert": _BERT,
}


def how_to_load(layout: str, preprocessing: Preprocessing) -> str:
    """Markdown; FOLDER stands for the exported folder."""
    return _USAGE.get(layout, _OPEN_CLIP).replace("LENGTH", str(preprocessing.length))
