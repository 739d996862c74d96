"""`python -m loadtests`: an open-loop run against a server, its results as JSON."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from loadtests.arrivals import poisson_arrivals
from loadtests.corpus import draw_texts, read_texts
from loadtests.generator import OpenLoop
from loadtests.recorder import Recorder
from loadtests.target import Calls, Target
from service.errors import DragomanError, InvalidInputError, UnavailableError

DEFAULT_TEXTS = Path("evaluation/sentences.tsv")
CONNECT_SECONDS = 3.0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description="Send Translate calls at Poisson arrivals; latency counts from when a call was meant to be sent.",
    )
    parser.add_argument("--address", default="127.0.0.1:50051", help="host:port of the server (%(default)s)")
    parser.add_argument("--source", default="en", help="source language (%(default)s)")
    parser.add_argument("--target", default="de", help="target language (%(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="calls per second (%(default)s)")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of measured arrivals (%(default)s)")
    parser.add_argument(
        "--warmup", type=float, default=3.0, help="seconds of arrivals before, not measured (%(default)s)"
    )
    parser.add_argument("--beam-size", type=int, default=1, help="1 is greedy (%(default)s)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds until a call gives up (%(default)s)")
    parser.add_argument("--channels", type=int, default=4, help="gRPC connections (%(default)s)")
    parser.add_argument(
        "--text", type=Path, default=DEFAULT_TEXTS, help="texts, first column of each line (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and texts (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write (standard output)")
    return parser


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Make the run that the command line asks for; the results."""
    if not arguments.duration > 0 or not arguments.warmup >= 0:
        raise InvalidInputError("--duration must be above 0 and --warmup at least 0 seconds")
    texts = read_texts(arguments.text)
    total_seconds = arguments.warmup + arguments.duration
    arrivals = poisson_arrivals(rate=arguments.rate, duration_seconds=total_seconds, seed=arguments.seed)
    recorder = Recorder(warmup_seconds=arguments.warmup)
    calls = Calls(
        source=arguments.source,
        target=arguments.target,
        beam_size=arguments.beam_size,
        timeout_seconds=arguments.timeout,
    )
    async with Target(address=arguments.address, calls=calls, channels=arguments.channels) as target:
        if not await target.wait_until_connected(timeout_seconds=CONNECT_SECONDS):
            raise UnavailableError(f"nobody answers at {arguments.address}")
        loop = OpenLoop(send=target.send, record=recorder.add, clock=time.monotonic)
        await loop.run(arrivals, draw_texts(texts, seed=arguments.seed))
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    return {"settings": settings, "offered_per_second": arguments.rate, **recorder.summary()}


def main() -> int:
    """Exit code 0: the run was made; 2: it could not be."""
    arguments = build_parser().parse_args()
    try:
        results = asyncio.run(run(arguments))
    except DragomanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = json.dumps(results, indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
