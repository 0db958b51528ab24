"""A side for the tests of turns."""

import os


class Side:
    def __init__(self, factor: int):
        print("what a library prints is no answer")
        self.factor = factor

    def times(self, number: int) -> int:
        return self.factor * number

    def threads(self) -> list[str | None]:
        return [os.environ.get(name) for name in ("NPROC", "OMP_NUM_THREADS")]

    def fail(self) -> None:
        raise ValueError("two\n lines")

    def die(self) -> None:
        os._exit(3)
