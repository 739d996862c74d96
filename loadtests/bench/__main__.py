"""`python -m loadtests.bench`: our engine, CTranslate2 and transformers as libraries on the same weights and ids."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from loadtests.bench.cases import FLOAT32, INT8, OURS, TRANSFORMERS, WHOLE, Case, Plan
from loadtests.bench.measuring import Bench, Row
from loadtests.bench.peers import CACHE, converted_model, peers_python
from loadtests.bench.picture import write_picture
from loadtests.bench.processor import hardware, usable_cores
from loadtests.bench.quality import Judge, signature
from loadtests.bench.report import Line, as_json, lines_of, markdown, others_share, table
from loadtests.bench.settings import SEARCHES
from loadtests.bench.setups import read_setups, write_setups
from loadtests.bench.system_process import SystemProcess
from loadtests.bench.text import Text, read_parallel
from loadtests.termination import run_program
from service.bundle import Bundle
from service.errors import DragomanError
from service.tokenizer import Tokenizer

LEVELS = (1, 8, 32, 64, WHOLE)
QUICK_LEVELS = (1, 8, WHOLE)
QUICK_SENTENCES = 20


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="what our engine runs")
    add("--checkpoint", type=Path, metavar="DIR", help="the Marian checkpoint of it; without one no peers run")
    add("--text", type=Path, required=True, metavar="FILE", help="sentences, one a line, .gz or not")
    add("--references", type=Path, required=True, metavar="FILE", help="their translations, for BLEU")
    add("--sentences", type=int, default=300, help="size of the whole file (%(default)s)")
    add("--rounds", type=int, default=5, help="rounds beside CTranslate2 int8 (%(default)s)")
    add("--slow-rounds", type=int, default=2, help="rounds beside the fp32 libraries (%(default)s)")
    add("--searches", nargs="+", choices=sorted(SEARCHES), default=list(SEARCHES), help="(all)")
    add("--levels", nargs="+", type=int, default=list(LEVELS), help="sentences in flight, 0 the whole file (all)")
    add("--setups", type=Path, metavar="FILE", help="take set-ups from here where it has them, and keep those swept")
    add("--output", type=Path, default=Path("build/bench"), metavar="DIR", help="for JSON and PNG (%(default)s)")
    add("--quick", action="store_true", help=f"a smoke: {QUICK_SENTENCES} sentences, one round, no sweep")
    return parser


def plan_of(arguments: argparse.Namespace) -> Plan:
    """What the arguments ask for."""
    quick = arguments.quick
    return Plan(
        searches=[SEARCHES[name] for name in arguments.searches],
        levels=QUICK_LEVELS if quick else arguments.levels,
        sentences=QUICK_SENTENCES if quick else arguments.sentences,
        rounds=1 if quick else arguments.rounds,
        slow_rounds=1 if quick else arguments.slow_rounds,
        peers=arguments.checkpoint is not None,
    )


def read_text(arguments: argparse.Namespace, plan: Plan) -> tuple[Text, Tokenizer]:
    """The sentences as every system gets them: ids of our own tokenizer."""
    bundle = Bundle.load(arguments.bundle)
    tokenizer = Tokenizer.load(bundle.directory)
    target_token = bundle.manifest.language_pairs[0].target_token
    sentences, references = read_parallel(arguments.text, arguments.references, limit=plan.sentences)
    ids = [list(tokenizer.encode(sentence, target_token).ids) for sentence in sentences]
    return Text(sentences=sentences, references=references, ids=ids), tokenizer


def open_systems(stack: ExitStack, arguments: argparse.Namespace) -> dict[str, SystemProcess]:
    """Start a process for each system; they load nothing before their first job."""
    module = "loadtests.bench"
    commands: dict[str, list[str | Path]] = {
        OURS: [sys.executable, "-m", f"{module}.ours", "--bundle", arguments.bundle]
    }
    if arguments.checkpoint is not None:
        python = peers_python()
        model = converted_model(python, arguments.checkpoint)
        for name, compute_type in ((INT8, "int8"), (FLOAT32, "float32")):
            peer: list[str | Path] = [python, "-m", f"{module}.ctranslate2_peer", "--model", model]
            commands[name] = [*peer, "--compute-type", compute_type]
        checkpoint = arguments.checkpoint
        commands[TRANSFORMERS] = [python, "-m", f"{module}.transformers_peer", "--checkpoint", checkpoint]
    logs = CACHE / "bench-logs"
    logs.mkdir(parents=True, exist_ok=True)
    return {
        name: stack.enter_context(SystemProcess(name, command, log=logs / f"{name}.log"))
        for name, command in commands.items()
    }


def measure(bench: Bench, cases: Sequence[Case], say: Callable[[str], None]) -> bool:
    """Take the rounds of every case; says whether all were taken, as Ctrl-C ends the measuring and keeps what there is.

    All cases have their first round before any has its second: what drifts in minutes then shows in the spread.
    """
    try:
        for number in range(max(case.rounds for case in cases)):
            for case in cases:
                if number < case.rounds:
                    bench.take_round(case)
    except KeyboardInterrupt:
        say("interrupted: the rounds taken so far are reported")
        return False
    return True


def judged(cases: list[list[Row]], text: Text, tokenizer: Tokenizer) -> list[Line]:
    """Every row with its BLEU and ratio."""
    judge = Judge([row for rows in cases for row in rows], text.references, tokenizer.decode)
    return [line for rows in cases for line in lines_of(rows, [judge.judge(row) for row in rows])]


def run(arguments: argparse.Namespace) -> None:
    """Make the run: table to the terminal, JSON and PNG to the output folder."""
    plan = plan_of(arguments)
    text, tokenizer = read_text(arguments, plan)
    began, clock = datetime.now(UTC), time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - clock:6.0f} s  {line}", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        systems = open_systems(stack, arguments)
        sweeps = frozenset() if arguments.quick else frozenset(systems)
        setups = read_setups(arguments.setups)
        bench = Bench(systems, text.ids, sweeps=sweeps, setups=setups, say=say)
        complete = measure(bench, list(plan.cases()), say)
        write_setups(arguments.setups, setups)
        versions = {name: system.versions for name, system in systems.items()}
    lines = judged(bench.rows(), text, tokenizer)
    share = others_share([turn for line in lines for turn in line.row.turns], cores=usable_cores())
    facts = {
        "began": began.isoformat(timespec="seconds"),
        "complete": complete,
        "seconds": round(time.monotonic() - clock, 1),
        "hardware": hardware(),
        "versions": versions,
        "bleu_signature": signature(),
        "others_cpu_share": share,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{began:%Y-%m-%d}-bench"
    path.with_suffix(".json").write_text(json.dumps(as_json(lines, facts=facts), indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(lines) + "\n", encoding="utf-8")
    write_picture(lines, path.with_suffix(".png"))
    print(table(lines))
    told = "is not known here" if share is None else f"{share:.0%}"
    print(f"\nOther processes' share of the processor meanwhile: {told}")
    print(f"Also in {path}.json and {path}.png")


def main() -> int:
    """Exit code 0: the run was made; 2: it could not be."""
    arguments = build_parser().parse_args()
    try:
        run(arguments)
    except DragomanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
