"""Every kind of bad record in one tar, through the whole pipeline: masked, or made good."""

import io
import tarfile

import numpy as np
from PIL import Image

from multimodal.config import Data, Tar
from multimodal.data.pipeline import batches, evaluation_batches
from multimodal.data.tokenizers import ByteTokenizer
from multimodal.preprocessing import Preprocessing
from tests.data.shards import encoded, picture, write_tar

SIZE = Preprocessing(image_size=16, length=12)


def _records():
    image = picture(0, 64, 64)
    jpeg = encoded(image, "JPEG")
    clear = image.copy()
    clear.putalpha(128)
    wide = np.full((64, 64), 40000, np.uint16)
    good = {
        "grey": (encoded(image.convert("L"), "JPEG"), "a caption"),
        "palette": (encoded(image.quantize(64)), "a caption"),
        "cmyk": (encoded(image.convert("CMYK"), "JPEG"), "a caption"),
        "rgba": (encoded(clear), "a caption"),
        "16bit": (encoded(Image.fromarray(wide)), "a caption"),
        "thin": (encoded(Image.new("RGB", (5000, 1), "red")), "a caption"),
        "tall": (encoded(Image.new("RGB", (1, 5000), "red"), "JPEG"), "a caption"),
        "long": (jpeg, "x" * 10000),
    }
    broken = {
        "half": (jpeg[: len(jpeg) // 2], "a caption"),
        "text": (b"<html>404</html>", "a caption"),
        "empty": (jpeg, ""),
        "blank": (jpeg, " \n\t"),
        "nothing": (b"", "a caption"),
    }
    return good, broken


def _write(path):
    good, broken = _records()
    mixed = [pair for both in zip(good.items(), broken.items(), strict=False) for pair in both]
    mixed += list(good.items())[len(broken) :]
    members = []
    for key, (image, text) in mixed:
        members += [(f"{key}.img", image), (f"{key}.txt", text.encode())]
    members += [("nopicture.txt", b"a caption"), ("notext.img", good["rgba"][0])]
    last = encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    )
    write_tar(path, [*members, ("cut.txt", b"a caption"), ("cut.img", last)])
    with tarfile.open(path) as tar:
        torn = tar.getmember("cut.img")
    path.write_bytes(path.read_bytes()[: torn.offset_data + torn.size // 2])
    return set(good), set(broken) | {"nopicture", "notext", "cut"}


def test_broken_records_are_masked_and_reported_and_the_rest_is_used(tmp_path):
    good, broken = _write(tmp_path / "a.tar")
    data = Data(source=Tar(f"{tmp_path}/a.tar"), fields={"image": "img", "text": "txt"})
    with batches(data, SIZE, batch_size=16, seed=0) as iterator:
        first, second = next(iterator), next(iterator)
    assert set(first["keys"]) == good | broken
    for batch in (first, second):
        masked = {k for k, valid in zip(batch["keys"], batch["valid"], strict=True) if not valid}
        assert masked == broken
        assert {key for key, _ in batch["broken"]} == broken
        assert not batch["image"][~batch["valid"]].any()
        assert not batch["text"][~batch["valid"]].any()
    assert first["keys"] != second["keys"]

    reasons = dict(first["broken"])
    assert reasons["empty"] == reasons["blank"] == "empty caption"
    assert reasons["cut"] == "img is cut off: a.tar ends early"
    assert reasons["nopicture"] == "no field 'img' among key, txt"
    for key in ("half", "text", "nothing"):
        assert reasons[key].startswith("unreadable picture: ")
    assert "begins with b'<html>404</h', no header of JPEG, PNG" in reasons["text"]
    assert "is empty, no header" in reasons["nothing"]

    images = dict(zip(first["keys"], first["image"], strict=True))
    texts = dict(zip(first["keys"], first["text"], strict=True))
    assert (images["16bit"] == 40000 >> 8).all()
    assert (images["grey"] == images["grey"][..., :1]).all()
    assert (images["thin"] == [255, 0, 0]).all()
    assert (np.abs(images["tall"].astype(int) - [254, 0, 0]) <= 2).all()
    small = np.asarray(picture(0, 64, 64).resize((16, 16), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(images["palette"] - small).mean() < 10
    assert np.abs(images["cmyk"] - small).mean() < 4
    assert np.abs(images["rgba"] - (small + 255) / 2).mean() < 2
    assert ByteTokenizer().decode(texts["long"]) == "x" * 10
    assert texts["long"][-1] == ByteTokenizer.end_id


def test_evaluation_masks_the_same(tmp_path):
    good, broken = _write(tmp_path / "a.tar")
    data = Data(source=Tar(f"{tmp_path}/a.tar"), fields={"image": "img", "text": "txt"})
    parts = list(evaluation_batches(data, SIZE, batch_size=10))
    valid = [k for b in parts for k, v in zip(b["keys"], b["valid"], strict=True) if v]
    assert sorted(valid) == sorted(good)
    assert {key for b in parts for key, _ in b["broken"]} == broken
    assert all(bool(t) == v for b in parts for t, v in zip(b["texts"], b["valid"], strict=True))


def test_nothing_shifts_around_a_broken_record(tmp_path):
    """The same tar with one picture damaged gives the same batches but for that one slot."""
    pictures = [encoded(picture(i, 64, 64)) for i in range(6)]
    found = []
    for name, damaged in (("whole", None), ("damaged", 3)):
        members = []
        for i, data in enumerate(pictures):
            data = data[:40] + bytes(len(data) - 40) if i == damaged else data
            members += [(f"{i}.png", data), (f"{i}.txt", b"caption")]
        write_tar(tmp_path / f"{name}.tar", members)
        chosen = Data(
            source=Tar(f"{tmp_path}/{name}.tar"),
            fields={"image": "png", "text": "txt"},
            augment=({"op": "random_resized_crop"},),
        )
        with batches(chosen, SIZE, batch_size=12, seed=0) as iterator:
            found.append(next(iterator))
    whole, damaged = found
    assert whole["keys"] == damaged["keys"]
    assert [k for k, v in zip(damaged["keys"], damaged["valid"], strict=True) if not v] == ["3"] * 2
    np.testing.assert_array_equal(
        whole["image"][damaged["valid"]], damaged["image"][damaged["valid"]]
    )
    np.testing.assert_array_equal(
        whole["text"][damaged["valid"]], damaged["text"][damaged["valid"]]
    )


def test_a_label_that_the_model_has_no_class_for(tmp_path):
    labels = {"none": b"-1", "first": b"0", "last": b"9", "beyond": b"10"}
    write_tar(tmp_path / "a.tar", [(f"{key}.cls", label) for key, label in labels.items()])
    data = Data(source=Tar(f"{tmp_path}/a.tar"), fields={"label": "cls"})
    with batches(data, SIZE, batch_size=4, seed=0, classes=10) as iterator:
        batch = next(iterator)
    valid = dict(zip(batch["keys"], batch["valid"], strict=True))
    assert valid == {"none": False, "first": True, "last": True, "beyond": False}
    said = "label {} is none of the model's classes, 0 to 9"
    assert dict(batch["broken"]) == {"none": said.format(-1), "beyond": said.format(10)}


def test_text_and_image_fields_of_the_wrong_kind(tmp_path):
    file = io.BytesIO(b'{"n": 3, "list": ["a", 1]}').getvalue()
    write_tar(tmp_path / "a.tar", [("a.json", file), ("a.cls", b"1"), ("a.txt", b"word")])
    for fields, reason in (
        ({"text": "json.n"}, "text is neither a string nor a list of strings: 3"),
        ({"text": "json.list"}, "text is neither a string nor a list of strings: ['a', 1]"),
        ({"image": "json.n"}, "image is neither encoded bytes nor uint8"),
        ({"image": "txt"}, "image is a text, 'word'; only a table"),
        ({"label": "txt"}, "label 'word' is not an integer"),
    ):
        data = Data(source=Tar(f"{tmp_path}/a.tar"), fields=fields)
        (batch,) = evaluation_batches(data, SIZE, batch_size=1)
        assert batch["broken"][0][0] == "a"
        assert batch["broken"][0][1].startswith(reason)
