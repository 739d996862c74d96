"""fp16 on a GPU beside fp32 on the CPU, sentence by sentence: python -m tests.gpu_parity [--device cpu]."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from exporter.serving import engine_over
from loadtests.bench.gpu.device import is_missing
from loadtests.bench.statistics import Spread
from loadtests.bench.text import read_lines
from service.bundle import Bundle
from service.engine import ModelRunner
from service.errors import DataError, DragomanError
from service.runtime import DeviceRunner, OnnxRunner, RuntimeSettings
from service.runtime.device_memory import Device
from service.runtime.sessions import open_sessions
from service.runtime.settings import DecodingMode
from service.tokenizer import Tokenizer
from tests.gpu_comparison import (
    Dependence,
    IdRows,
    TokenDifference,
    batch_dependence,
    greedy_answers,
    token_differences,
)
from tests.gpu_smoke import MISMATCH, NO_GPU, WRONG_USE, bundles

REQUIRED = 0.995
"""Share of sentences whose fast-mode tokens must be those of fp32 on the CPU."""
MAX_OUTPUT_TOKENS = 256
_LISTED = 40
MODES: tuple[DecodingMode, ...] = ("fast", "deterministic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What was found. Tokens a second are of all sentences decoded greedily together, by mode."""

    sentences: int
    too_long: int
    differences: list[TokenDifference]
    dependence: dict[DecodingMode, Dependence]
    tokens_per_second: dict[DecodingMode, Spread]

    @property
    def agreement(self) -> float:
        """Share of sentences with the reference's tokens in fast mode."""
        return 1.0 - len(self.differences) / self.sentences

    @property
    def cost(self) -> float:
        """How many times as long deterministic mode takes, by the medians."""
        return self.tokens_per_second["fast"].median / self.tokens_per_second["deterministic"].median

    @property
    def holds(self) -> bool:
        """Whether both promises are kept."""
        return self.agreement >= REQUIRED and not self.dependence["deterministic"].sentences


def runner_on_device(bundle: Bundle, mode: DecodingMode, args: argparse.Namespace) -> ModelRunner:
    """A runner under test."""
    settings = RuntimeSettings(
        row_slots=args.rows,
        max_output_tokens=MAX_OUTPUT_TOKENS,
        provider=args.device,
        mode=mode,
        device_id=args.device_id,
    )
    return DeviceRunner(
        bundle, open_sessions(bundle, settings), settings, Device(kind=args.device, number=args.device_id)
    )


def reference_runner(bundle: Bundle, *, threads: int) -> ModelRunner:
    """fp32 on the CPU."""
    settings = RuntimeSettings(threads_per_worker=threads, max_output_tokens=MAX_OUTPUT_TOKENS)
    return OnnxRunner(bundle, open_sessions(bundle, settings), settings)


def read_sources(bundle: Bundle, text: Path, *, limit: int) -> IdRows:
    """Ids of the first `limit` sentences, EOS included; raises DataError when there are none."""
    tokenizer = Tokenizer.load(bundle.directory)
    target = bundle.manifest.language_pairs[0].target_token
    lines = [line for line in read_lines(text) if line.strip()][:limit]
    if not lines:
        raise DataError(f"{text} holds no sentences")
    return [list(tokenizer.encode(line, target).ids) for line in lines]


def compare(expected: Bundle, tested: Bundle, args: argparse.Namespace) -> Parity:
    """Decode everything on both, alone and in company, and time both modes in turns."""
    reference = reference_runner(expected, threads=args.threads)
    found = read_sources(expected, args.text, limit=args.sentences)
    sources = [source for source in found if len(source) <= reference.limits.max_source_tokens]
    expected_answers, _ = greedy_answers(reference, sources)
    runners: dict[DecodingMode, ModelRunner] = {mode: runner_on_device(tested, mode, args) for mode in MODES}
    fast_answers, _ = greedy_answers(runners["fast"], sources)
    rates: dict[DecodingMode, list[float]] = {mode: [] for mode in MODES}
    dependence: dict[DecodingMode, Dependence] = {}
    for mode in MODES:
        with engine_over(runners[mode]) as engine:
            dependence[mode] = batch_dependence(engine, sources)
    for mode in MODES * args.rounds:
        rates[mode].append(greedy_answers(runners[mode], sources)[1])
    return Parity(
        sentences=len(sources),
        too_long=len(found) - len(sources),
        differences=token_differences(reference, sources, expected_answers, fast_answers),
        dependence=dependence,
        tokens_per_second={mode: Spread.of(each) for mode, each in rates.items()},
    )


def report(parity: Parity) -> None:
    """Print every difference, then a line for each promise and for the cost."""
    if parity.differences:
        print(f"{'sentence':>8} {'step':>4} {'fp32 id':>8} {'found id':>8} {'top-two gap':>12} {'lead':>9}")
    for each in parity.differences:
        ids = f"{each.expected:>8} {each.found:>8}"
        print(f"{each.sentence:>8} {each.step:>4} {ids} {each.top_two_gap:>12.4g} {each.lead:>9.4g}")
    equal = parity.sentences - len(parity.differences)
    print(f"fast: {equal} of {parity.sentences} sentences ({parity.agreement:.2%}) have the tokens of fp32 on the CPU")
    if parity.too_long:
        print(f"{parity.too_long} sentences are too long and were left out")
    for mode, dependence in parity.dependence.items():
        promised = "must be 0" if mode == "deterministic" else "not promised"
        found = dependence.sentences
        print(f"{mode}: {len(found)} sentences depend on their company ({promised}; {dependence.companies} companies)")
        if found:
            print(f"    {', '.join(map(str, found[:_LISTED]))}{', ...' if len(found) > _LISTED else ''}")
    for mode, rate in parity.tokens_per_second.items():
        print(f"{mode}: {rate.median:.0f} tokens/s ({rate.least:.0f}-{rate.largest:.0f})")
    print(f"deterministic takes {parity.cost:.2f} times as long")
    print("HOLDS" if parity.holds else "DOES NOT HOLD")


def parity_of(args: argparse.Namespace, folder: Path) -> int:
    """Export what is missing, compare, print, write."""
    parity = compare(*bundles(args.checkpoint, folder, args.precision), args)
    report(parity)
    if args.output is not None:
        facts = {"agreement": parity.agreement, "deterministic_cost": parity.cost, "holds": parity.holds}
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(facts | asdict(parity), indent=1) + "\n", encoding="utf-8")
    return 0 if parity.holds else MISMATCH


def build_parser() -> argparse.ArgumentParser:
    """The command line; with DRAGOMAN_TEST_DATA the model is OPUS-MT zh-en and the text FLORES dev."""
    data = os.environ.get("DRAGOMAN_TEST_DATA")
    checkpoint = Path(data, "models", "opus-mt-zh-en") if data else Path("models/en-defres")
    parser = argparse.ArgumentParser(prog="python -m tests.gpu_parity", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, default=checkpoint, metavar="DIR", help="what to export (%(default)s)")
    text = Path(data, "data", "flores", "dev.zh.gz") if data else None
    add("--text", type=Path, default=text, required=text is None, metavar="FILE", help="sentences, one a line")
    add("--sentences", type=int, default=1000, help="how many of them at most (%(default)s)")
    add("--bundles", type=Path, metavar="DIR", help="take DIR/fp32 and DIR/fp16, and export what is not there")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="where the runner under test keeps its memory")
    add("--device-id", type=int, default=0, metavar="N", help="which GPU")
    add("--precision", choices=("fp16", "fp32"), default="fp16", help="of the bundle under test")
    add("--rows", type=int, default=64, help="row slots (%(default)s)")
    add("--threads", type=int, default=os.cpu_count() or 1, help="of the reference on the CPU (%(default)s)")
    add("--rounds", type=int, default=3, help="rounds of timing (%(default)s)")
    add("--output", type=Path, metavar="FILE", help="write everything as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: both promises hold; 1: one does not; 2: wrong use; 3: there is no GPU here."""
    args = build_parser().parse_args(arguments)
    if is_missing(args.device, args.device_id):
        return NO_GPU
    try:
        if args.bundles is not None:
            return parity_of(args, args.bundles)
        with tempfile.TemporaryDirectory() as scratch:
            return parity_of(args, Path(scratch))
    except DragomanError as error:
        print(f"gpu-parity: {error}", file=sys.stderr)
        return WRONG_USE


if __name__ == "__main__":
    sys.exit(main())
