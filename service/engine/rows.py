"""The state of every running row as arrays, so that a search step is a handful of vector operations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.engine.runner import ModelLimits, RowCopy
from service.engine.sequence import FloatArray, IntArray

Rows = npt.NDArray[np.intp]


class RowTable:
    """Token history, scores and positions by row slot.

    tokens int32 and token_scores float32 (rows, max_output_tokens); lengths, limits, last_tokens, sentence_slots
    int32 (rows); scores float32 (rows), the sum of the log-probabilities so far. `lengths` counts generated tokens
    and equals the positions in the row's key/value memory before the next step.
    """

    def __init__(self, limits: ModelLimits) -> None:
        rows, width = limits.row_slots + 1, limits.max_output_tokens  # the last is RowPool.spare
        self._start_id = limits.start_id
        self.tokens: IntArray = np.zeros((rows, width), np.int32)
        self.token_scores: FloatArray = np.zeros((rows, width), np.float32)
        self.lengths: IntArray = np.zeros(rows, np.int32)
        self.limits: IntArray = np.zeros(rows, np.int32)
        self.last_tokens: IntArray = np.zeros(rows, np.int32)
        self.sentence_slots: IntArray = np.zeros(rows, np.int32)
        self.scores: FloatArray = np.zeros(rows, np.float32)

    def open(self, row: int, *, sentence_slot: int, limit: int) -> None:
        """Begin a row that has generated nothing yet."""
        self.lengths[row] = 0
        self.limits[row] = limit
        self.last_tokens[row] = self._start_id
        self.sentence_slots[row] = sentence_slot
        self.scores[row] = 0.0

    def append(self, rows: Rows, tokens: npt.NDArray[np.integer], log_probs: FloatArray) -> None:
        """Add one token to each of `rows`; arrays are (len(rows),)."""
        lengths = self.lengths[rows]
        self.tokens[rows, lengths] = tokens
        self.token_scores[rows, lengths] = log_probs
        self.last_tokens[rows] = tokens
        self.scores[rows] += log_probs
        self.lengths[rows] = lengths + 1

    def copy(self, sources: Rows, targets: Rows) -> None:
        """Make rows `targets` what rows `sources` are; no target is also a source."""
        for column in (self.lengths, self.limits, self.last_tokens, self.sentence_slots, self.scores):
            column[targets] = column[sources]
        width = int(self.lengths[sources].max(initial=0))
        self.tokens[targets, :width] = self.tokens[sources, :width]
        self.token_scores[targets, :width] = self.token_scores[sources, :width]

    def row_copies(self, sources: Rows, targets: Rows) -> list[RowCopy]:
        """Key/value copies of whole rows after a decode step: row r then holds positions 0 to lengths[r]."""
        ends = self.lengths[sources] + 1
        return [
            RowCopy(source=int(source), target=int(target), begin=0, end=int(end))
            for source, target, end in zip(sources, targets, ends, strict=True)
        ]

    def branch_copies(self, sources: Rows, targets: Rows) -> list[RowCopy]:
        """Key/value copies that let `targets` continue `sources`, lanes of one sentence that have decoded equally far.

        Keys and values of a position depend only on the tokens up to it, so what both have in common stays where it
        is. To be called before `copy`, after a decode step: row r then holds positions 0 to lengths[r].
        """
        if not len(sources):
            return []
        ends = self.lengths[sources] + 1
        width = int(ends.max(initial=1)) - 1
        differs = self.tokens[sources, :width] != self.tokens[targets, :width]
        differs &= np.arange(width) < (ends - 1)[:, None]
        first = np.where(differs.any(axis=1), differs.argmax(axis=1), ends - 1)
        return [
            RowCopy(source=int(source), target=int(target), begin=int(begin) + 1, end=int(end))
            for source, target, begin, end in zip(sources, targets, first, ends, strict=True)
            if begin + 1 < end
        ]

    def ids(self, row: int, length: int) -> tuple[int, ...]:
        """The first `length` generated tokens of `row`."""
        return tuple(self.tokens[row, :length].tolist())
