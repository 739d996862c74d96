"""What the engine asks of a model: the protocol between decode loop and runtime."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.engine.sequence import FloatArray, IntArray

RowArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """Fixed facts of a loaded model and the memory it was given.

    `max_output_tokens` counts EOS. `has_alignments` says whether steps return alignment queries. Up to `lone_rows` rows
    are faster on one worker that is alone than spread over several; 0 where being alone brings nothing.
    """

    row_slots: int
    sentence_slots: int
    max_source_tokens: int
    max_output_tokens: int
    source_vocabulary_size: int
    vocabulary_size: int
    start_id: int
    eos_id: int
    pad_id: int
    has_alignments: bool
    lone_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCopy:
    """Copy self-attention keys/values of positions [begin, end) from row `source` to row `target`."""

    source: int
    target: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One decode step over rows 0 to R-1.

    `last_tokens`, `past_lengths`, `sentence_slots` are (R,); `bans` is (B, 2) of (row, token id), row by row and
    equally many for each; `best` is how many of the best tokens each row needs; `full_rows` asks for whole rows of
    log-probabilities as well. `alone`: no other worker has sequences, so their cores are free; no result may depend on
    it.
    """

    last_tokens: IntArray
    past_lengths: IntArray
    sentence_slots: IntArray
    bans: RowArray
    best: int
    full_rows: bool
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """What a step found; arrays belong to the runner and are valid until its next call.

    `top_ids` int64 and `top_log_probs` float32 are (R, best), best first; `log_probs` (R, padded vocabulary) or None;
    `alignment_queries` (R, heads x head) or None: the engine keeps these rows and hands them back to `align`.
    """

    top_ids: RowArray
    top_log_probs: FloatArray
    log_probs: FloatArray | None
    alignment_queries: FloatArray | None


class ModelRunner(Protocol):
    """One worker's view of a model: its key/value memory and two graphs. Used from one thread."""

    @property
    def limits(self) -> ModelLimits:
        """Facts that do not change."""

    def encode(self, sources: Many[IntArray], slots: Many[int], lanes: Many[int]) -> None:
        """Encode `sources` as one padded batch into sentence slots; `lanes` is the number of rows of each."""

    def release(self, slot: int) -> None:
        """The sentence in `slot` has left; its memory may be reused."""

    def copy_rows(self, copies: Many[RowCopy]) -> int:
        """Copy self keys/values between rows, in order; returns the bytes moved."""

    def decode_step(self, batch: Batch) -> StepOutput:
        """Run one decode step, appending one position to each row's self keys/values."""

    def align(self, slot: int, queries: FloatArray) -> FloatArray:
        """Attention (steps, source) of the alignment heads over the sentence in `slot`.

        `queries` (steps, heads x head) are those of all steps of one hypothesis in their order, that of EOS last: a
        token's attention may need the step that takes the token as input as well.
        """
