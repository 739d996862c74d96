"""A system's own process: reads jobs from standard input, runs them in a closed loop, writes what they took."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from concurrent.futures import Future
from typing import Protocol, TypeVar

from loadtests.bench.closed_loop import Call, calls_of, closed_loop
from loadtests.bench.processor import others_cpu_seconds
from loadtests.bench.protocol import Answer, IdRows, Job

Raw = TypeVar("Raw")


class Run(Protocol[Raw]):
    """One job made ready: its inputs are in the form the library wants."""

    def start(self, call: Call) -> Future[Raw]:
        """Hand the sentences of `call` to the library."""

    def ids(self, raw: Raw) -> IdRows:
        """The best hypothesis of each sentence of a call (no EOS)."""


class System(Protocol[Raw]):
    """A library under test."""

    def versions(self) -> dict[str, str]:
        """Versions of what computes."""

    def prepare(self, job: Job) -> Run[Raw]:
        """Load the model as the job's settings say, unless it is, and make the job ready."""


def run_job(system: System[Raw], job: Job) -> Answer:
    """Run one job; loading and conversion of ids lie outside the measured time."""
    run = system.prepare(job)
    settings = job.settings
    lengths = [len(source) for source in job.sources]
    calls = calls_of(lengths, call_size=settings.call_size, longest_first=settings.longest_first)
    others, cpu, begin = others_cpu_seconds(), time.process_time(), time.perf_counter()
    answered = closed_loop(calls, run.start, in_flight=job.in_flight)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    others_after = others_cpu_seconds()
    outputs: IdRows = [[] for _ in job.sources]
    for call, raw in zip(calls, answered, strict=True):
        for index, ids in zip(call, run.ids(raw), strict=True):
            outputs[index] = ids
    meanwhile = None if others is None or others_after is None else max(0.0, others_after - others)
    return Answer(outputs=outputs, seconds=seconds, cpu_seconds=cpu_seconds, others_cpu_seconds=meanwhile)


def serve(system: System[Raw]) -> None:
    """Say the versions, then answer each line of standard input with one of standard output, until there is no more.

    Whatever a library prints goes to standard error, so that it cannot get between the lines.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what is printed comes before what ends the process
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        answers.write(json.dumps(system.versions()) + "\n")
        answers.flush()
        for line in sys.stdin:
            answers.write(run_job(system, Job.from_line(line)).to_line())
            answers.flush()
