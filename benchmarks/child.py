"""One side of a comparison in a process of its own: python -m benchmarks.child MODULE

Of each line of its input, a JSON [method, arguments], it calls that method of MODULE.Side, or makes
the Side where the method is "Side", and answers with a line {"value": ...} or {"error": ...}.
"""

import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    side: Any = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            value = getattr(side, method)(**arguments)
            if method == "Side":
                side, value = value, None
            reply = {"value": value}
        except Exception as error:
            told = " ".join(str(error).split())[:500]
            reply = {"error": f"{type(error).__name__}: {told}"}
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main()
