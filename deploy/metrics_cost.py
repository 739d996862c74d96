"""`python -m deploy.metrics_cost --bundle DIR`: what the metrics cost of a step, as a share of it, on this machine.

An engine decodes sentences while every report to its observer is kept; then the same reports go to the metrics alone,
and the processor time of both is compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from service.bundle import Bundle
from service.engine import DecodingOptions, Engine, FinishReason, RefusalReason, StepRecord, Timings
from service.metrics import EngineMetrics, Metrics
from service.runtime import RuntimeSettings, load_runners
from service.tokenizer import Tokenizer

TEXT = "The children read the old book in the garden, and nobody saw them."
ROUNDS = 5


class Recorder:
    """An EngineObserver that keeps each report as a call to be made again on another observer."""

    def __init__(self) -> None:
        self.reports: list[Callable[[EngineMetrics], None]] = []
        self.steps = 0

    def step(self, record: StepRecord) -> None:
        """See EngineObserver."""
        self.steps += 1
        self.reports.append(lambda other: other.step(record))

    def refused(self, reason: RefusalReason) -> None:
        """See EngineObserver."""
        self.reports.append(lambda other: other.refused(reason))

    def finished(self, reason: FinishReason, timings: Timings) -> None:
        """See EngineObserver."""
        self.reports.append(lambda other: other.finished(reason, timings))

    def queue(self, sequences: int, tokens: int) -> None:
        """See EngineObserver."""
        self.reports.append(lambda other: other.queue(sequences, tokens))

    def slots(self, worker: int, rows: int, sentences: int) -> None:
        """See EngineObserver."""
        self.reports.append(lambda other: other.slots(worker, rows, sentences))


def share_of_a_step(bundle: Path, *, rows: int) -> float:
    """The metrics' processor time over that of the engine's turns, with `rows` sentences side by side: a median."""
    opened = Bundle.load(bundle)
    settings = RuntimeSettings(workers=1, threads_per_worker=1, row_slots=rows)
    recorder = Recorder()
    engine = Engine(load_runners(opened, settings), observer=recorder)
    pair = opened.manifest.language_pairs[0]
    source = Tokenizer.load(opened.directory).encode(TEXT, pair.target_token).ids
    metrics = EngineMetrics(Metrics(CollectorRegistry()), "m")
    shares = []
    for number in range(ROUNDS + 1):
        recorder.reports.clear()
        for _ in range(rows):
            engine.submit(source, DecodingOptions())
        began = time.thread_time()
        while engine.step():
            pass
        turns = time.thread_time() - began
        for report in recorder.reports:  # what is made once, at a worker's first step
            report(metrics)
        began = time.thread_time()
        for report in recorder.reports:
            report(metrics)
        if number:  # the first round warms up
            shares.append((time.thread_time() - began) / turns)
    return statistics.median(shares)


def main() -> int:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(prog="python -m deploy.metrics_cost", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of a bundle")
    bundle: Path = parser.parse_args().bundle
    for rows in (1, 8, 32):
        print(f"{rows:2} rows: the metrics take {share_of_a_step(bundle, rows=rows):.2%} of a step")
    return 0


if __name__ == "__main__":
    sys.exit(main())
