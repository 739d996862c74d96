"""`python -m loadtests.peers`: our server beside those that people build around other engines, at rising load."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from loadtests.bench.peers import converted_model, peers_python
from loadtests.bench.processor import hardware
from loadtests.bench.text import read_lines
from loadtests.mixed_lengths import mixed_lengths
from loadtests.peers.comparison import KINDS, Comparison, Plan
from loadtests.peers.field import Field
from loadtests.peers.picture import write_picture
from loadtests.peers.systems import CTRANSLATE2, OURS, STATIC, TRANSFORMERS, Models, Setup
from loadtests.peers.table import markdown, named_ratios
from loadtests.termination import run_program
from service.errors import DataError, DragomanError

LOADS = (0.1, 0.3, 0.45, 0.6, 0.8, 1.2, 2.4)
"""From what every server carries to what none does, close together where CTranslate2's goodput has its peak."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.peers", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="what our server runs")
    add("--checkpoint", type=Path, required=True, metavar="DIR", help="the Marian checkpoint of it")
    add("--text", type=Path, required=True, metavar="FILE", help="sentences, one a line, .gz or not")
    add("--as-given", action="store_true", help="send the sentences as they are, not clauses and periods of them too")
    add("--source", default="zh", help="source language (%(default)s)")
    add("--target", default="en", help="target language (%(default)s)")
    add("--searches", nargs="+", choices=sorted(KINDS), default=list(KINDS), help="(all)")
    add("--systems", nargs="+", default=[OURS, STATIC, CTRANSLATE2, TRANSFORMERS], help="(all)")
    add("--loads", nargs="+", type=float, default=list(LOADS), help="over CTranslate2's closed loop (%(default)s)")
    add("--seconds", type=float, default=6.0, help="at each rate (%(default)s)")
    add(
        "--sweep-seconds",
        type=float,
        default=5.0,
        help="for each closed loop, and each rate of the sweep (%(default)s)",
    )
    add("--limit-factor", type=float, default=5.0, help="limit of a good answer over CTranslate2's alone (%(default)s)")
    add("--rounds", type=int, default=5, help="(%(default)s)")
    add("--budget", type=float, default=float("inf"), metavar="SECONDS", help="for one search, sweep and all (no end)")
    add("--setups", type=Path, metavar="FILE", help="take the set-ups from here if it exists, else sweep and write it")
    add("--sweep-only", action="store_true", help="choose the set-ups and end")
    add("--seed", type=int, default=0, help="of arrivals and texts (%(default)s)")
    add("--output", type=Path, default=Path("build/peers"), metavar="DIR", help="table, JSON, PNG (%(default)s)")
    return parser


def plan_of(arguments: argparse.Namespace, search: str) -> Plan:
    """What the arguments ask for with one search."""
    return Plan(
        search=search,
        systems=arguments.systems,
        loads=sorted(arguments.loads),
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        sweep_seconds=arguments.sweep_seconds,
        in_flight=64,
        limit_factor=arguments.limit_factor,
        source=arguments.source,
        target=arguments.target,
        seed=arguments.seed,
        budget_seconds=arguments.budget,
    )


async def run(arguments: argparse.Namespace) -> list[Comparison]:
    """Sweep where it is not known already what is best, then compare."""
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {line}", file=sys.stderr, flush=True)

    python, checkpoint = peers_python(), arguments.checkpoint.resolve()
    models = Models(
        bundle=arguments.bundle.resolve(),
        checkpoint=checkpoint,
        converted=converted_model(python, checkpoint),
        python=python,
    )
    sentences = [line for line in read_lines(arguments.text) if line.strip()]
    if not sentences:
        raise DataError(f"{arguments.text} has no sentences")
    texts = tuple(sentences) if arguments.as_given else mixed_lengths(sentences, seed=arguments.seed)
    known = read_setups(arguments.setups)
    comparisons = []
    for search in arguments.searches:
        field = Field(models, plan_of(arguments, search), texts, say)
        if search not in known:
            known[search] = await field.choose_setups()
            write_setups(arguments.setups, known)
        if not arguments.sweep_only:
            comparisons.append(await field.compare(known[search]))
    return comparisons


def read_setups(path: Path | None) -> dict[str, dict[str, Setup]]:
    """By search and system; empty where there is no file."""
    if path is None or not path.exists():
        return {}
    fields = json.loads(path.read_text(encoding="utf-8"))
    return {search: {system: Setup(**setup) for system, setup in systems.items()} for search, systems in fields.items()}


def write_setups(path: Path | None, setups: dict[str, dict[str, Setup]]) -> None:
    """Keep the choice for another run."""
    if path is not None:
        fields = {
            search: {system: asdict(setup) for system, setup in systems.items()} for search, systems in setups.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def write_results(arguments: argparse.Namespace, comparisons: list[Comparison]) -> None:
    """Table, JSON and picture."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{datetime.now(UTC):%Y-%m-%d}-peers-{'-'.join(each.search for each in comparisons)}"
    fields = {
        "hardware": hardware(),
        "loads": arguments.loads,
        "seconds": arguments.seconds,
        "comparisons": [asdict(each) for each in comparisons],
        "ratios": named_ratios(comparisons),
    }
    path.with_suffix(".json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(comparisons) + "\n", encoding="utf-8")
    write_picture(comparisons, path.with_suffix(".png"))
    print(markdown(comparisons))
    print(f"Also in {path}.json and {path}.png")


def main() -> int:
    """Exit code 0: the comparison was made; 2: it could not be."""
    arguments = build_parser().parse_args()
    try:
        comparisons = asyncio.run(run(arguments))
    except DragomanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if comparisons:
        write_results(arguments, comparisons)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
