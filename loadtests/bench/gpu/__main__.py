"""`python -m loadtests.bench.gpu`: our engine on a GPU beside transformers, CTranslate2 and what the card can do."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from loadtests.bench.gpu.cases import FEWEST_SENTENCES, ROWS
from loadtests.bench.gpu.device import NO_GPU, DeviceWatch, add_device, check_precision, is_missing
from loadtests.bench.gpu.parts import PARTS, Plan, Run
from loadtests.bench.gpu.picture import write_picture
from loadtests.bench.gpu.report import as_json
from loadtests.bench.gpu.tables import aligned, markdown, tables
from loadtests.bench.processor import hardware
from loadtests.bench.settings import SEARCHES
from loadtests.bench.text import read_lines
from loadtests.termination import run_program
from service.bundle import Bundle
from service.engine import EngineLimits
from service.errors import ConfigError, DataError, DragomanError
from service.tokenizer import Tokenizer

OURS_FAILED, WRONG_USE = 1, 2
"""Exit codes, with NO_GPU."""
QUICK_ROWS = (1, 8)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.gpu", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="what our engine runs, in fp16")
    add("--checkpoint", type=Path, metavar="DIR", help="the Marian checkpoint of it; without one no peers run")
    add("--text", type=Path, required=True, metavar="FILE", help="sentences, one a line, .gz or not")
    add("--peers-python", type=Path, metavar="FILE", help="Python with torch and transformers; else one is set up")
    add_device(parser)
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (all)")
    add("--rows", nargs="+", type=int, default=list(ROWS), help="sentences x beams (%(default)s)")
    searches = ["greedy", "beam4-normalised"]
    add("--searches", nargs="+", choices=sorted(SEARCHES), default=searches, help="(%(default)s)")
    add("--rounds", type=int, default=5, help="rounds of every case (%(default)s)")
    encoded = EngineLimits().max_encode_tokens
    add("--encode-tokens", type=int, default=encoded, help="tokens of one run of our encoder (%(default)s)")
    add("--output", type=Path, default=Path("build/bench"), metavar="DIR", help="for JSON, table and PNG (%(default)s)")
    add("--quick", action="store_true", help="a smoke: few rows and sentences, one round")
    return parser


def plan_of(arguments: argparse.Namespace) -> Plan:
    """What the arguments ask for; raises ConfigError for what cannot be."""
    quick = arguments.quick
    rows = QUICK_ROWS if quick else tuple(arguments.rows)
    if min(rows) < 1 or arguments.rounds < 1:
        raise ConfigError("--rows and --rounds must be at least 1")
    return Plan(
        searches=[SEARCHES[name] for name in arguments.searches],
        rows=rows,
        rounds=1 if quick else arguments.rounds,
        fewest=4 if quick else FEWEST_SENTENCES,
        latency_sentences=2 if quick else 20,
        step_rounds=5 if quick else 31,
    )


def read_sources(arguments: argparse.Namespace) -> list[list[int]]:
    """Ids of the text, EOS included, by our own tokenizer; raises DataError when there is none, ConfigError for a
    bundle that the device cannot run."""
    bundle = Bundle.load(arguments.bundle)
    check_precision(bundle, arguments.provider)
    tokenizer = Tokenizer.load(bundle.directory)
    target_token = bundle.manifest.language_pairs[0].target_token
    sources = [list(tokenizer.encode(line, target_token).ids) for line in read_lines(arguments.text) if line.strip()]
    if not sources:
        raise DataError(f"{arguments.text} holds no sentences")
    return sources


def run(arguments: argparse.Namespace) -> int:
    """Make the run: tables to the terminal, JSON, Markdown and PNG to the output folder; 1 when our engine failed."""
    began, clock = datetime.now(UTC), time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - clock:6.0f} s  {line}", file=sys.stderr, flush=True)

    watch = DeviceWatch(arguments.provider, arguments.device_id)
    made = Run(arguments, plan_of(arguments), read_sources(arguments), watch, say)
    measured = made.measure()
    facts = {
        "began": began.isoformat(timespec="seconds"),
        "complete": made.complete,
        "seconds": round(time.monotonic() - clock, 1),
        "parts": arguments.parts,
        "device": watch.facts(),
        "hardware": hardware(),
        "versions": made.versions,
        "left_out": made.left_out,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{began:%Y-%m-%d-%H%M%S}-gpu"
    found = list(tables(measured))
    path.with_suffix(".json").write_text(json.dumps(as_json(measured, facts=facts), indent=1) + "\n", encoding="utf-8")
    sections = [f"## {title}\n\n{markdown(cells)}\n" for title, cells in found]
    path.with_suffix(".md").write_text("\n".join(sections), encoding="utf-8")
    write_picture(measured, path.with_suffix(".png"))
    for title, cells in found:
        print(f"{title}\n\n{aligned(cells)}\n")
    for name, reason in made.left_out.items():
        print(f"Left out: {name}: {reason}")
    print(f"Also in {path}.json, .md and .png")
    return OURS_FAILED if made.ours_failed else 0


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: the run was made; 1: our engine failed in it; 2: it could not be made; 3: there is no GPU here."""
    given = build_parser().parse_args(arguments)
    if is_missing(given.provider, given.device_id):
        return NO_GPU
    try:
        return run(given)
    except DragomanError as error:
        print(f"gpu-bench: {error}", file=sys.stderr)
        return WRONG_USE


if __name__ == "__main__":
    sys.exit(run_program(main))
