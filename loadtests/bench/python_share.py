"""`python -m loadtests.bench.python_share`: how much of a step is Python, not the model.

One worker on one thread decodes sentences, greedily and by four beams, in 32 rows. Of each turn with nearly all rows
taken and nobody to encode, the processor time of the worker's thread outside ONNX Runtime's runs is taken:
scheduling, search, bans, bindings, and copying keys and values between rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from loadtests.bench.edge import encoded
from loadtests.bench.ours import NO_QUEUE_LIMIT
from loadtests.bench.statistics import Spread
from loadtests.bench.text import read_lines
from service.bundle import Bundle
from service.engine import DecodingOptions, Engine, Priority, StepRecord
from service.engine.observer import SilentObserver
from service.runtime import OnnxRunner, RuntimeSettings
from service.runtime.sessions import open_sessions

ROWS = 32
FULL = 0.9
"""Share of the rows that must be taken for a turn to count."""


class Watch(SilentObserver):
    """Sums up what runs take, and closes a turn when the worker reports it; all on the worker's thread."""

    def __init__(self) -> None:
        self.runs = 0.0
        self._began = 0.0
        self.shares: list[float] = []

    def run(self, work: object, *arguments: object) -> object:
        """Call `work` and add the thread's processor time to the runs'."""
        began = time.thread_time()
        result = work(*arguments)  # type: ignore[operator]
        self.runs += time.thread_time() - began
        return result

    def step(self, record: StepRecord) -> None:
        """See EngineObserver."""
        now = time.thread_time()
        if self._began and record.rows >= FULL * ROWS and not record.encoded_tokens:
            self.shares.append(1.0 - self.runs / (now - self._began))
        self._began, self.runs = now, 0.0


@dataclass(frozen=True, slots=True)
class TimedSession:
    """A session whose runs are watched."""

    session: ort.InferenceSession
    watch: Watch

    def run(self, names: Sequence[str], feeds: dict[str, npt.NDArray[np.generic]]) -> object:
        """See InferenceSession."""
        return self.watch.run(self.session.run, names, feeds)

    def run_with_iobinding(self, binding: ort.IOBinding) -> object:
        """See InferenceSession."""
        return self.watch.run(self.session.run_with_iobinding, binding)

    def io_binding(self) -> ort.IOBinding:
        """See InferenceSession."""
        return self.session.io_binding()


def shares(bundle: Bundle, sources: Sequence[Sequence[int]], *, beam_size: int) -> list[float]:
    """Python's share of each full turn, after a round that does not count."""
    settings, watch = RuntimeSettings(row_slots=ROWS), Watch()
    sessions = open_sessions(bundle, settings)
    timed = replace(
        sessions,
        encoder=cast("ort.InferenceSession", TimedSession(sessions.encoder, watch)),
        decoder=cast("ort.InferenceSession", TimedSession(sessions.decoder, watch)),
    )
    engine = Engine([OnnxRunner(bundle, timed, settings)], limits=NO_QUEUE_LIMIT, observer=watch)
    engine.start()
    options = DecodingOptions(beam_size=beam_size)
    for _ in range(2):
        watch.shares.clear()
        tickets = [engine.submit(ids, options, priority=Priority.BULK) for ids in sources]
        for ticket in tickets:
            ticket.future.result()
    engine.shutdown(grace_seconds=1.0)
    return watch.shares


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.python_share", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="what runs")
    add("--text", type=Path, required=True, metavar="FILE", help="sentences, one a line, .gz or not")
    add("--sentences", type=int, default=160, help="how many of them (%(default)s)")
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    sources = encoded(bundle, read_lines(arguments.text)[: arguments.sentences])
    for name, beam_size in (("greedy", 1), ("4 beams", 4)):
        found = shares(bundle, sources[: len(sources) // beam_size], beam_size=beam_size)
        spread = Spread.of(found)
        mean = sum(found) / len(found)
        print(f"{name}, {ROWS} rows: Python is {spread.median:.1%} of a step (mean {mean:.1%}, {len(found)} steps)")


if __name__ == "__main__":
    main()
