"""One sentence on its way through the engine, and the answer it ends with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from service.engine.options import DecodingOptions, Priority

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]


class SequenceStatus(Enum):
    """Where a sequence is: in the queue, in a batch, or answered."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class FinishReason(Enum):
    """Why a sequence or hypothesis ended."""

    EOS = "eos"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time of one sequence went, in seconds; `steps` counts its decode steps."""

    queue_seconds: float
    encode_seconds: float
    decode_seconds: float
    first_token_seconds: float
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One candidate translation.

    `ids` exclude the start token and EOS. `score` is `log_prob` after the length penalty. `token_scores` are the
    natural log-probabilities of each id, with that of EOS last when it was chosen (not forced). `alignment` is
    float32 (len(ids) + 1, source): attention of each output step, EOS last, over the source ids; rows sum to 1.
    """

    ids: tuple[int, ...]
    score: float
    log_prob: float
    finish_reason: FinishReason
    token_scores: tuple[float, ...] | None = None
    alignment: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingResult:
    """The answer to one submitted sequence: its hypotheses, best first."""

    hypotheses: tuple[Hypothesis, ...]
    timings: Timings


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """The engine's own record of a sentence: what was asked, and where it stands.

    `follows` says that others of its call were accepted before. `rows` are its row slots in lane order. `trace` keeps,
    for sequences that asked for alignments, each step's alignment queries (lanes, heads x head) and the lane that each
    lane came from.
    """

    source_ids: IntArray
    options: DecodingOptions
    max_output_tokens: int
    priority: Priority
    deadline: float | None
    seed: int
    submitted: float
    on_token: Callable[[tuple[int, ...]], None] | None = None
    future: Future[DecodingResult] = field(default_factory=Future)
    status: SequenceStatus = SequenceStatus.WAITING
    follows: bool = False
    cancelled: bool = False
    overtaken: int = 0
    scheduled: float = 0.0
    encoded: float = 0.0
    first_token: float = 0.0
    steps: int = 0
    sentence_slot: int = 0
    rows: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    finished: list[Hypothesis] = field(default_factory=list)
    trace: list[tuple[npt.NDArray[np.intp], FloatArray]] = field(default_factory=list)

    def queries_of(self, lane: int) -> FloatArray:
        """Alignment queries (steps, heads x head) of the hypothesis that ends on `lane`, oldest first."""
        queries: list[FloatArray] = []
        for parents, step_queries in reversed(self.trace):
            if queries:
                lane = int(parents[lane])
            queries.append(step_queries[lane])
        return np.stack(queries[::-1])

    @property
    def row_demand(self) -> int:
        """Row slots it needs at most: one per beam."""
        return self.options.beam_size

    def timings(self, now: float) -> Timings:
        """Timings up to the monotonic time `now`; phases not reached count as zero."""
        scheduled = self.scheduled or now
        encoded = self.encoded or scheduled
        first = self.first_token or now
        return Timings(
            queue_seconds=scheduled - self.submitted,
            encode_seconds=encoded - scheduled,
            decode_seconds=now - encoded if self.encoded else 0.0,
            first_token_seconds=first - self.submitted,
            steps=self.steps,
        )


Aligner = Callable[[Sequence, int], FloatArray]
"""Turns the hypothesis that ends on a lane of a sequence into its alignment (steps, source)."""
