"""Runs the trainer on many command lines, each in a fork of one process that has imported it.

`python -m tests.refusals` reads one JSON list of arguments a line and answers with one JSON object:
the exit status, what was printed on stderr, and how many programs were compiled. Ten forks take as
long as one start.
"""

import json
import os
import sys
import tempfile

import jax.monitoring

from multimodal import command, train

COMPILED = "/jax/core/compile/backend_compile_duration"


def attempt(arguments: list[str]) -> dict:
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryFile("w+") as counts:
        child = os.fork()
        if child == 0:
            os.dup2(errors.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            jax.monitoring.register_event_duration_secs_listener(
                lambda event, seconds, **_: event == COMPILED and os.write(counts.fileno(), b".")
            )
            sys.argv = ["train", *arguments]
            command.run(train.main)
        _, status = os.waitpid(child, 0)
        errors.seek(0)
        counts.seek(0)
        return {
            "status": os.waitstatus_to_exitcode(status),
            "errors": errors.read(),
            "compiled": len(counts.read()),
        }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(attempt(json.loads(line))), flush=True)
