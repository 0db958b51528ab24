"""What is removed stays away, and nothing else is touched."""

import contextlib
import threading
import time

from multimodal.checkpoint.folder import remove_halves


def test_half_a_save_is_removed_though_writes_of_it_are_still_under_way(tmp_path):
    whole = tmp_path / "00000001"
    half = tmp_path / "00000002.orbax-checkpoint-tmp"
    whole.mkdir()

    def write():
        for index in range(20):
            with contextlib.suppress(FileNotFoundError):  # removed in between
                (half / "state" / str(index)).mkdir(parents=True)
                (half / "state" / str(index) / "data").touch()
            time.sleep(0.02)

    writes = threading.Thread(target=write)
    writes.start()
    while not half.exists():
        time.sleep(0.001)
    remove_halves(tmp_path)
    writes.join()
    assert list(tmp_path.iterdir()) == [whole]
