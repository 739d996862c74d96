"""Twenty ragged decode steps on a GPU against the CPU: python -m tests.gpu_smoke [--device cpu --precision fp32]."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exporter.export import export
from exporter.export_options import ExportOptions
from loadtests.bench.gpu.device import has_gpu
from service.bundle import Bundle, Precision
from service.engine import Batch, ModelRunner, RowCopy
from service.errors import DragomanError
from service.runtime import DeviceRunner, OnnxRunner, RuntimeSettings
from service.runtime.device_memory import Device
from service.runtime.sessions import open_sessions
from service.runtime.settings import DecodingMode, Provider
from service.tokenizer import Tokenizer

STEPS = 20
BEST = 8
MISMATCH, WRONG_USE, NO_GPU = 1, 2, 3
"""Exit codes."""
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 0.1, "int8": 0.0}
TEXTS = ("I see the old man.", "We love this garden, and they will buy three keys.", "Yes.", "The train has left.")
LANES = (1, 4, 1, 2)
OPENS_AT = (0, 0, 4, 7)
BRANCHES_AT, LEAVES_AT = 10, 14


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step: rows, rows whose best token differs beyond a tie, and the largest difference of a log-probability."""

    rows: int
    differing: int
    difference: float


@dataclass(slots=True)
class Rows:
    """What the rows are that both runners decode."""

    tokens: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    lanes: list[int] = field(default_factory=list)

    def batch(self, pad_id: int) -> Batch:
        """One step over all of them."""
        return Batch(
            last_tokens=np.array(self.tokens, np.int32),
            past_lengths=np.array(self.lengths, np.int32),
            sentence_slots=np.array(self.slots, np.int32),
            bans=np.array([(row, pad_id) for row in range(len(self.tokens))], np.int64),
            best=BEST,
            full_rows=True,
        )

    def copy(self, source: int, target: int) -> RowCopy:
        """Make row `target` what `source` is, but for its lane."""
        self.tokens[target], self.lengths[target] = self.tokens[source], self.lengths[source]
        self.slots[target] = self.slots[source]
        return RowCopy(source=source, target=target, begin=0, end=self.lengths[source])


def compare(
    reference: ModelRunner, subject: ModelRunner, sources: Sequence[Sequence[int]], *, tolerance: float
) -> list[StepResult]:
    """Let both decode the same tokens: sentences join in different steps, beams branch, one leaves and rows move.

    The reference's choices are fed to both, each beam lane taking another of its best tokens.
    """
    runners, rows = (reference, subject), Rows()
    results = []
    for step in range(STEPS):
        _join(runners, rows, sources, step)
        if step == BRANCHES_AT:
            copies = [rows.copy(1, 2), rows.copy(3, 4), rows.copy(2, 3)]
            for runner in runners:
                runner.copy_rows(copies)
        if step == LEAVES_AT:
            _leave(runners, rows)
        batch = rows.batch(reference.limits.pad_id)
        found, other = (runner.decode_step(batch) for runner in runners)
        results.append(_compared(found.top_ids, found.log_probs, other.log_probs, tolerance))
        rows.tokens = [int(found.top_ids[row, lane]) for row, lane in enumerate(rows.lanes)]
        rows.lengths = [length + 1 for length in rows.lengths]
    return results


def _join(runners: Sequence[ModelRunner], rows: Rows, sources: Sequence[Sequence[int]], step: int) -> None:
    slots = [slot for slot, begin in enumerate(OPENS_AT) if begin == step]
    if not slots:
        return
    for runner in runners:
        runner.encode([np.array(sources[slot], np.int32) for slot in slots], slots, [LANES[slot] for slot in slots])
    for slot in slots:
        count = LANES[slot]
        rows.tokens += [runners[0].limits.start_id] * count
        rows.lengths += [0] * count
        rows.slots += [slot] * count
        rows.lanes += range(count)


def _leave(runners: Sequence[ModelRunner], rows: Rows) -> None:
    """The sentence on row 0 is done; the last row takes its place."""
    last = len(rows.tokens) - 1
    gone = rows.slots[0]
    rows.lanes[0] = rows.lanes[last]
    copy = rows.copy(last, 0)
    for runner in runners:
        runner.release(gone)
        runner.copy_rows([copy])
    for column in (rows.tokens, rows.lengths, rows.slots, rows.lanes):
        column.pop()


def _compared(
    best: npt.NDArray[np.int64],
    expected: npt.NDArray[np.float32] | None,
    found: npt.NDArray[np.float32] | None,
    tolerance: float,
) -> StepResult:
    if expected is None or found is None:
        raise RuntimeError("a step came without its full rows: this is a bug")
    every = np.arange(len(best))
    difference = np.abs(np.take_along_axis(expected, best, 1) - np.take_along_axis(found, best, 1))
    chosen = found.argmax(axis=1)
    lead = expected[every, best[:, 0]] - expected[every, chosen]
    beyond_ties = (chosen != best[:, 0]) & (lead > tolerance)
    largest = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    return StepResult(rows=len(best), differing=int(beyond_ties.sum()), difference=largest)


def runner_settings(mode: DecodingMode, provider: Provider, device_id: int) -> RuntimeSettings:
    """Small slots: what is tested is not the size."""
    return RuntimeSettings(
        row_slots=12, max_source_tokens=64, max_output_tokens=32, provider=provider, mode=mode, device_id=device_id
    )


def bundles(checkpoint: Path, folder: Path, precision: Precision) -> tuple[Bundle, Bundle]:
    """The fp32 bundle and the one under test; those that `folder` holds already are taken as they are."""
    found: list[Bundle] = []
    for each in ("fp32", precision):
        if not (folder / each / "manifest.json").exists():
            export(checkpoint, folder / each, ExportOptions(precision=each, proof_sentences=8))
        found.append(Bundle.load(folder / each))
    return found[0], found[1]


def report(results: Sequence[StepResult], tolerance: float) -> bool:
    """Print the table; True when everything agrees."""
    print(f"{'step':>4} {'rows':>4} {'other ids':>9} {'largest log-prob difference':>27}")
    for step, result in enumerate(results):
        print(f"{step:>4} {result.rows:>4} {result.differing:>9} {result.difference:>27.3g}")
    agree = all(result.differing == 0 and result.difference <= tolerance for result in results)
    worst = max(result.difference for result in results)
    print(f"{'agrees' if agree else 'DISAGREES'} with fp32 on the CPU: largest difference {worst:.3g} of {tolerance:g}")
    return agree


def smoke(args: argparse.Namespace, folder: Path) -> int:
    """Export, run, compare, print."""
    expected, tested = bundles(args.checkpoint, folder, args.precision)
    tokenizer = Tokenizer.load(expected.directory)
    target = expected.manifest.language_pairs[0].target_token
    sources = [tokenizer.encode(text, target).ids for text in TEXTS]
    on_cpu = runner_settings("fast", "cpu", 0)
    agree = True
    for mode in ("fast", "deterministic"):
        settings = runner_settings(mode, args.device, args.device_id)
        device = Device(kind=args.device, number=args.device_id)
        reference = OnnxRunner(expected, open_sessions(expected, on_cpu), on_cpu)
        subject = DeviceRunner(tested, open_sessions(tested, settings), settings, device)
        tolerance = TOLERANCES[args.precision]
        print(f"{tested.manifest.model_id} {args.precision} on {args.device}, {mode}")
        agree &= report(compare(reference, subject, sources, tolerance=tolerance), tolerance)
    return 0 if agree else MISMATCH


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code says how it ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu_smoke", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, default=Path("models/en-defres"), metavar="DIR", help="what to export")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="where the runner under test keeps its memory")
    add("--device-id", type=int, default=0, metavar="N", help="which GPU")
    add("--precision", choices=("fp16", "fp32"), default="fp16", help="of the bundle under test")
    add("--bundles", type=Path, metavar="DIR", help="take DIR/fp32 and DIR/fp16, and export what is not there")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not has_gpu(args.device_id):
        print("gpu-smoke: ONNX Runtime can use no such GPU on this machine, nothing was tested", file=sys.stderr)
        return NO_GPU
    try:
        if args.bundles is not None:
            return smoke(args, args.bundles)
        with tempfile.TemporaryDirectory() as scratch:
            return smoke(args, Path(scratch))
    except DragomanError as error:
        print(f"gpu-smoke: {error}", file=sys.stderr)
        return WRONG_USE


if __name__ == "__main__":
    sys.exit(main())
