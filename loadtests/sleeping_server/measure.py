"""`python -m loadtests.sleeping_server.measure`: what a bundle's decode steps and encoder batches take on a worker."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.bundle import Bundle
from service.engine import Batch, ModelRunner
from service.errors import DragomanError
from service.runtime import RuntimeSettings, load_runners

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
ENCODED = ((1, 8), (1, 32), (4, 32), (16, 32), (64, 32))
"""Sentences of an encoder batch and the length of each."""
SOURCE_TOKENS, PAST_TOKENS = 30, 15
REPEATS = 30


def random_sources(runner: ModelRunner, *, count: int, length: int) -> list[np.ndarray[tuple[int], np.dtype[np.int32]]]:
    """Sources of arbitrary words; what they say changes no time."""
    generator = random.Random(count)
    size, eos = runner.limits.source_vocabulary_size, runner.limits.eos_id
    return [np.array([*(generator.randrange(size) for _ in range(length - 1)), eos], np.int32) for _ in range(count)]


def least_seconds(run: Callable[[], object]) -> float:
    """The least of some repeats, after one that does not count: what other processes take is no part of it."""
    run()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def encode_seconds(runner: ModelRunner, *, count: int, length: int) -> float:
    """Seconds of one encoder batch."""
    sources, slots = random_sources(runner, count=count, length=length), list(range(count))

    def run() -> None:
        runner.encode(sources, slots, [1] * count)
        for slot in slots:
            runner.release(slot)

    return least_seconds(run)


def step_seconds(runner: ModelRunner, *, rows: int) -> float:
    """Seconds of one greedy decode step in the middle of sentences of usual length."""
    slots = list(range(rows))
    runner.encode(random_sources(runner, count=rows, length=SOURCE_TOKENS), slots, [1] * rows)
    batch = Batch(
        last_tokens=np.full(rows, runner.limits.start_id, np.int32),
        past_lengths=np.full(rows, PAST_TOKENS, np.int32),
        sentence_slots=np.arange(rows, dtype=np.int32),
        bans=np.stack([np.arange(rows), np.full(rows, runner.limits.pad_id)], axis=1).astype(np.int64),
        best=1,
        full_rows=False,
    )
    seconds = least_seconds(lambda: runner.decode_step(batch))
    for slot in slots:
        runner.release(slot)
    return seconds


def main() -> int:
    """Exit code 0: measured; 2: it could not be."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.sleeping_server.measure", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    try:
        bundle = Bundle.load(arguments.bundle)
        (runner,) = load_runners(bundle, RuntimeSettings(workers=1, threads_per_worker=1, row_slots=max(ROWS)))
    except DragomanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    manifest = bundle.manifest
    encode = [[count * length, encode_seconds(runner, count=count, length=length)] for count, length in ENCODED]
    fields = {
        "model": f"{manifest.model_id} {manifest.precision}, one worker of one thread",
        "step": [[rows, round(step_seconds(runner, rows=rows), 6)] for rows in ROWS],
        "encode": [[tokens, round(seconds, 6)] for tokens, seconds in encode],
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
    arguments.output.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
