"""The largest encoder batch and the largest steps, run by all workers at once before there is work."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier, BrokenBarrierError

import numpy as np

from service.engine import Batch, ModelRunner
from service.errors import BundleError
from service.graph_names import LANES
from service.runtime.memory import ENCODED_TOKENS


def warm_up(runners: Sequence[ModelRunner], *, lone_decoder: bool = False) -> None:
    """Take from the system, before serving, the memory that the workers' largest demands need together.

    Workers share their sessions' memory, which grows to the largest sum of what they hold at one time. Left to chance
    that sum comes hours later, and the process grows until then. A `lone_decoder` has memory of its own, which one
    worker at a time uses.

    Raises BundleError when the model cannot run at that size.
    """
    together = Barrier(len(runners))
    with ThreadPoolExecutor(len(runners)) as pool:
        runs = [pool.submit(_run_largest, runner, together) for runner in runners]
        wait(runs)
        if lone_decoder:
            runs.append(pool.submit(_run_largest_steps, runners[0], Barrier(1), alone=True))
    errors = [error for run in runs if (error := run.exception()) is not None]
    for error in errors:
        if not isinstance(error, BrokenBarrierError):  # those only waited for the one that failed
            raise BundleError("the model does not run with as many tokens as it may get at once") from error


def _run_largest(runner: ModelRunner, together: Barrier) -> None:
    longest = runner.limits.max_source_tokens
    sentences = max(1, min(runner.limits.row_slots, ENCODED_TOKENS // longest))
    try:
        _run(runner, together, sentences=sentences, source_tokens=longest)
        _run_largest_steps(runner, together)
    except BaseException:
        together.abort()
        raise


def _run_largest_steps(runner: ModelRunner, together: Barrier, *, alone: bool = False) -> None:
    rows = runner.limits.row_slots
    lanes = min(LANES, rows)
    _run(runner, together, sentences=rows, alone=alone)
    _run(runner, together, sentences=rows // lanes, lanes=lanes, alone=alone)


def _run(
    runner: ModelRunner,
    together: Barrier,
    *,
    sentences: int,
    source_tokens: int = 1,
    lanes: int = 1,
    alone: bool = False,
) -> None:
    """Encode `sentences` in one batch, and step with `lanes` rows of each that are at their last position."""
    limits = runner.limits
    slots, rows = range(sentences), sentences * lanes
    together.wait()
    runner.encode([np.full(source_tokens, limits.eos_id, np.int32)] * sentences, slots, [lanes] * sentences)
    together.wait()
    runner.decode_step(
        Batch(
            last_tokens=np.full(rows, limits.start_id, np.int32),
            past_lengths=np.full(rows, limits.max_output_tokens - 1, np.int32),
            sentence_slots=np.repeat(np.arange(sentences, dtype=np.int32), lanes),
            bans=np.stack([np.arange(rows), np.full(rows, limits.pad_id)], axis=1),
            best=LANES,
            full_rows=False,
            alone=alone,
        )
    )
    for slot in slots:
        runner.release(slot)
