"""`python -m service --bundle DIR`: serves translation over gRPC until SIGTERM; exit code 2 if it cannot start."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from service.bootstrap import serve
from service.config import load_settings
from service.errors import DragomanError

SWITCH_SECONDS = 0.0001
"""How long the event loop may hold the interpreter while an engine's thread waits for it between two steps.

Python's 5 ms are longer than many a step, and under a flood of calls to refuse the engine waited for each of them.
"""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: stopped when asked; 2: could not start, and one line on standard error says why."""
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        asyncio.run(serve(load_settings(arguments)))
    except DragomanError as error:
        print(f"service: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
