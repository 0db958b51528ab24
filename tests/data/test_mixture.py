"""Several sources as one: weights, epochs, names, and the record at which a run goes on."""

import collections
import dataclasses
import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multimodal.config import Data, Holdout, Mixture, Parquet, Part, Tar
from multimodal.data.pipeline import batches, evaluation_batches
from multimodal.data.tokenizers import ByteTokenizer
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from tests.data.shards import encoded, members, picture, write_tar

SIZE = Preprocessing(image_size=8, length=20)


@pytest.fixture
def mixture(tmp_path):
    write_tar(tmp_path / "a.tar", members(range(12)))
    table = {"photo": [encoded(picture(i)) for i in range(5)], "title": [f"t{i}" for i in range(5)]}
    pq.write_table(pa.table(table), tmp_path / "b.parquet")
    holdout = Holdout("json.group", 0.4)
    return Mixture(
        {
            "tars": Part(
                Tar(f"{tmp_path}/a.tar"),
                3.0,
                {"image": "png", "text": "json.captions", "label": "cls"},
                holdout=holdout,
            ),
            "rows": Part(
                Parquet(f"{tmp_path}/b.parquet"), fields={"image": "photo", "text": "title"}
            ),
        }
    )


def _keys(data, count, **options):
    with batches(data, SIZE, batch_size=20, seed=2, **options) as iterator:
        return [k for b in itertools.islice(iterator, count) for k in b["keys"]]


def test_weights_epochs_and_names(mixture):
    keys = _keys(Data(mixture), 20)
    parts = collections.Counter(key.partition("/")[0] for key in keys)
    assert abs(parts["tars"] / 400 - 0.75) < 4 * (0.75 * 0.25 / 400) ** 0.5
    rows = [key for key in keys if key.startswith("rows")]
    assert rows[:5] != rows[5:10]
    for first in range(0, len(rows) - 4, 5):
        assert set(rows[first : first + 5]) == {f"rows/b/{i}" for i in range(5)}
    tars = [key for key in keys if key.startswith("tars")]
    own = len(set(tars))
    assert 0 < own < 12
    assert collections.Counter(tars[: own * 3]) == dict.fromkeys(set(tars), 3)


def test_a_run_goes_on_at_the_very_record(mixture):
    data = Data(mixture)
    saved = Data(Mixture(dict(reversed(mixture.parts.items()))))  # in another order
    assert _keys(saved, 3, start_batch=4) == _keys(data, 7)[80:]


def test_evaluation_takes_the_parts_one_by_one(mixture):
    (batch,) = evaluation_batches(Data(mixture), SIZE, batch_size=32, extra=("part", "label"))
    count = batch["valid"].sum()
    assert batch["part"][:count] == ["rows"] * 5 + ["tars"] * (count - 5)
    assert batch["texts"][4] == ["t4"]
    assert batch["label"][5] == int(batch["keys"][5][-4:]) % 10
    assert batch["label"][4] is None


def test_texts_are_those_of_the_part(mixture):
    with batches(Data(mixture), SIZE, batch_size=40, seed=0) as iterator:
        batch = next(iterator)
    assert batch["valid"].all()
    for key, ids in zip(batch["keys"], batch["text"], strict=True):
        part, name = key.split("/", 1)
        text = ByteTokenizer().decode(ids)
        assert text[:-1] == f"c{int(name)}" if part == "tars" else text == f"t{name[-1]}"


def test_a_field_that_one_part_lacks_is_masked_there(mixture):
    fields = {"image": "image", "label": "label"}
    with batches(Data(mixture, fields), SIZE, batch_size=40, seed=0) as iterator:
        batch = next(iterator)
    for key, valid in zip(batch["keys"], batch["valid"], strict=True):
        assert valid == key.startswith("tars")


def test_what_cannot_be_mixed_is_one_line(mixture, tmp_path):
    def refused(message, data):
        with pytest.raises(UserError, match=message):
            batches(data, SIZE, batch_size=8, seed=0)

    refused("where and holdout in the parts", Data(mixture, where={"label": (1,)}))
    gone = Mixture({"x": Part(Tar(f"{tmp_path}/gone.tar"))})
    refused("data.source.parts.x: data.source.path: no such file: .*gone.tar", Data(gone))
    wrong = Mixture({"x": Part(Tar(f"{tmp_path}/a.tar"), fields={"text": "tyt"})})
    refused(
        "data.source.parts.x: data.fields.text: no record has 'tyt'; records have: cls",
        Data(wrong, {"text": "text"}),
    )
    rare = dataclasses.replace(mixture.parts["tars"], weight=1e-6)
    refused("parts.x.weight=1e-06: must be", Data(Mixture({"x": rare, **mixture.parts})))
    refused("a mixture needs at least one", Data(Mixture({})))
    refused("data.fields.image: no part of the mixture has 'pic'", Data(mixture, {"image": "pic"}))
