"""`python -m loadtests SCENARIO...`: load from outside, thresholds that fail the run, JSON and an HTML report."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests.cores import Cores
from loadtests.corpus import read_texts
from loadtests.report.page import write_report
from loadtests.results import Results
from loadtests.scenarios.subject import default_texts
from loadtests.server_process import SERVICE, SLEEPING
from loadtests.session import ALL_SCENARIOS, SUITE, Order, run
from loadtests.termination import run_program
from service.errors import DragomanError

CORES = {"apart": Cores.apart, "shared": Cores.shared}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description="Open-loop load: Poisson arrivals, latency from when a call was meant to be sent.",
        epilog="Exit code 0: every threshold held; 1: one did not; 2: no run; 3: a phase is invalid.",
    )
    add = parser.add_argument
    add("scenarios", nargs="*", default=["steady"], metavar="SCENARIO", help=f"suite or {', '.join(ALL_SCENARIOS)}")
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--address", help="host:port of a server that runs")
    server.add_argument("--bundle", type=Path, metavar="DIR", help="start the service with this bundle")
    server.add_argument("--sleeping", action="store_true", help="start the service with a runner that only sleeps")
    add("--server-options", default="", metavar="OPTIONS", help="further options of the server that is started")
    add("--source", default="en", help="source language (%(default)s)")
    add("--target", default="de", help="target language (%(default)s)")
    add("--text", type=Path, metavar="FILE", help="texts, first column of each line (a generated corpus)")
    add("--seconds", type=float, default=10.0, help="length of a usual phase (%(default)s)")
    add("--ceiling-seconds", type=float, default=1.0, help="at each rate of the generator's own test (%(default)s)")
    add("--limit", type=float, metavar="SECONDS", help="deadline of calls and limit of a good answer (from the alone)")
    add("--in-flight", type=int, default=128, help="calls in flight when the capacity is measured (%(default)s)")
    add("--trace", type=Path, metavar="FILE", help="arrival times in seconds, one a line, for the scenario trace")
    add("--cores", choices=sorted(CORES), default="apart", help="a core for the generator alone? (%(default)s)")
    add("--seed", type=int, default=0, help="of arrivals and texts (%(default)s)")
    add("--output", type=Path, default=Path("build/loadtest"), metavar="DIR", help="JSON and report (%(default)s)")
    return parser


def order_of(arguments: argparse.Namespace) -> Order:
    """What the command line asks for. Raises DragomanError."""
    names: list[str] = []
    for name in arguments.scenarios:
        if name != "suite" and name not in ALL_SCENARIOS:
            raise DragomanError(f"there is no scenario {name}: suite or {', '.join(ALL_SCENARIOS)}")
        names += SUITE if name == "suite" else [name]
    command: Sequence[str] = SLEEPING if arguments.sleeping else (*SERVICE, "--bundle", str(arguments.bundle))
    return Order(
        scenarios=names,
        address=arguments.address,
        command=[*command, *shlex.split(arguments.server_options)],
        cores=CORES[arguments.cores](),
        source=arguments.source,
        target=arguments.target,
        texts=read_texts(arguments.text) if arguments.text else default_texts(arguments.seed),
        seconds=arguments.seconds,
        ceiling_seconds=arguments.ceiling_seconds,
        in_flight=arguments.in_flight,
        seed=arguments.seed,
        limit_seconds=arguments.limit,
        trace=arguments.trace,
    )


def exit_code(results: Results) -> int:
    """3 before 1: where a phase is invalid, a threshold that failed says nothing of the server."""
    if results.invalid:
        return 3
    return 1 if results.failed else 0


def main() -> int:
    """Run what the command line asks for; see the epilog for the exit code."""
    arguments = build_parser().parse_args()
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", file=sys.stderr, flush=True)

    settings = {name: str(value) for name, value in vars(arguments).items() if name != "output"}
    try:
        results = asyncio.run(run(order_of(arguments), settings, say))
    except DragomanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "loadtest.json"
    path.write_text(results.to_json(), encoding="utf-8")
    write_report(results, path.with_suffix(".html"))
    for reason in results.invalid:
        print(f"INVALID {reason}")
    for name in results.failed:
        print(f"FAILED  {name}")
    print(f"{len(results.scenarios)} scenarios, {len(results.failed)} thresholds failed; {path.with_suffix('.html')}")
    return exit_code(results)


if __name__ == "__main__":
    sys.exit(run_program(main))
