import dataclasses

import numpy as np
import pytest

from multimodal.config import Data, Tar
from multimodal.data.throughput import STAGES, profile, rate
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from tests.data.shards import encoded, picture, write_tar

SIZE = Preprocessing(image_size=16, length=12)
OPTIONS = {"batch_size": 8, "seed": 0, "seconds": 0.2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    members = []
    for i in range(12):
        members += [
            (f"{i}.jpg", encoded(picture(i, 60, 80), "JPEG")),
            (f"{i}.txt", b"seven b"),
        ]
    members += [("99.jpg", b"no picture"), ("99.txt", b"")]
    write_tar(path, members)
    fields = {"image": "jpg", "text": "txt"}
    return Data(Tar(str(path)), fields, augment=({"op": "random_resized_crop"},))


def test_a_profile_has_every_stage_of_an_example(data):
    found = profile(data, SIZE, **OPTIONS)
    assert list(found.stages) == [*STAGES, "other"]
    assert all(spent.clock > 0 for name, spent in found.stages.items())
    assert 0 < found.cpu < 0.1
    assert found.picture == (60, 80)
    assert found.records == 13 and found.shards == 1
    assert found.examples >= 8 and found.examples % 8 == 0
    jpegs = [len(encoded(picture(i, 60, 80), "JPEG")) for i in range(12)]
    assert found.record_bytes == pytest.approx((sum(jpegs) + 12 * 7 + 10) / 13)


def test_without_pictures_nothing_is_decoded(data):
    texts = dataclasses.replace(data, fields={"text": "txt"}, augment=())
    found = profile(texts, SIZE, **OPTIONS)
    assert {"decode", "augment"}.isdisjoint(found.stages)
    assert found.picture is None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_rate_counts_the_work_of_the_workers_too(data, workers):
    found = rate(data, SIZE, workers, **OPTIONS)
    assert found.workers == workers
    assert found.per_second > 0
    cores = found.per_second / found.per_cpu_second  # at work on the average
    assert 0 < cores < 64 and np.isfinite(cores)


def test_fewer_shards_than_hosts_are_refused(data):
    with pytest.raises(UserError, match="shards=1 is below processes=2"):
        profile(data, SIZE, **OPTIONS, process_count=2)
