"""`python -m loadtests.sleeping_server`: the service with its own settings, its model's runners asleep."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from loadtests.sleeping_server.bundle import write_bundle
from loadtests.sleeping_server.runner import sleeping_runners
from loadtests.sleeping_server.step_times import MEASURED, StepTimes
from service.bootstrap import serve
from service.config import load_settings
from service.errors import DragomanError

TOKENIZER = Path("models/en-defres")


def build_parser() -> argparse.ArgumentParser:
    """The options that the service does not have."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.sleeping_server",
        description="The service with a runner that sleeps as long as a model would compute. Listens on 127.0.0.1.",
        epilog="All other options are those of `python -m service`; --bundle need not be given.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--step-times", type=Path, default=MEASURED, metavar="FILE", help="what a worker's turns take (%(default)s)")
    add("--time-scale", type=float, default=1.0, help="multiplies all of them (%(default)s)")
    add("--tokenizer", type=Path, default=TOKENIZER, metavar="DIR", help="where no bundle is given (%(default)s)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: stopped when asked; 2: could not start, and one line on standard error says why."""
    own, rest = build_parser().parse_known_args(arguments)
    os.environ.setdefault("DRAGOMAN_HOST", "127.0.0.1")
    try:
        times = StepTimes.load(own.step_times).scaled(own.time_scale)
        with tempfile.TemporaryDirectory(prefix="dragoman-sleeping-") as directory:
            os.environ.setdefault("DRAGOMAN_BUNDLE", str(write_bundle(own.tokenizer, Path(directory)).directory))
            asyncio.run(serve(load_settings(rest), runners=partial(sleeping_runners, times=times)))
    except DragomanError as error:
        print(f"sleeping_server: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
