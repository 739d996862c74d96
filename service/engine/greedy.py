"""Search over rows that follow one hypothesis each: greedy choice, or a draw where the caller asked for sampling."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np

from service.engine.rows import RowTable
from service.engine.runner import ModelLimits, StepOutput
from service.engine.sampling import sample, sample_full_row, uniform
from service.engine.scoring import length_divisor
from service.engine.sequence import Aligner, FinishReason, Hypothesis, Sequence

SAMPLING_BEST = 64


def needs_full_row(sequence: Sequence) -> bool:
    """Whether sampling for `sequence` may reach beyond the best tokens that a step returns."""
    options = sequence.options
    return options.sampling and not 0 < options.top_k <= SAMPLING_BEST


class GreedySearch:
    """Advances sequences that hold one row: greedy, sampling, and beams still inside a forced prefix."""

    def __init__(self, limits: ModelLimits, table: RowTable, align: Aligner) -> None:
        self._eos_id = limits.eos_id
        self._table = table
        self._align = align

    def advance(self, group: Many[Sequence], output: StepOutput) -> list[Sequence]:
        """Append one token to each sequence; returns those that are finished, their hypothesis in place."""
        table = self._table
        rows = np.fromiter((sequence.rows[0] for sequence in group), np.intp, len(group))
        ids = output.top_ids[rows, 0]
        log_probs = output.top_log_probs[rows, 0]
        natural_end = ids == self._eos_id
        lengths = table.lengths[rows]
        last_step = lengths + 1 >= table.limits[rows]
        ids[last_step] = self._eos_id
        log_probs[last_step & ~natural_end] = 0.0
        for index, sequence in enumerate(group):
            length = int(lengths[index])
            if length < len(sequence.options.target_prefix):
                ids[index], log_probs[index] = sequence.options.target_prefix[length], 0.0
            elif sequence.options.sampling and not last_step[index]:
                ids[index], log_probs[index] = _draw(sequence, int(rows[index]), length, output)
        table.append(rows, ids, log_probs)
        ended = np.flatnonzero(ids == self._eos_id).tolist()
        for index in ended:
            forced = bool(last_step[index] and not natural_end[index])
            self._finish(group[index], FinishReason.LENGTH if forced else FinishReason.EOS)
        return [group[index] for index in ended]

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        table, row = self._table, int(sequence.rows[0])
        length = int(table.lengths[row])
        log_prob = float(table.scores[row])
        scored = length - 1 if reason is FinishReason.LENGTH else length
        scores = tuple(table.token_scores[row, :scored].tolist())
        sequence.finished.append(
            Hypothesis(
                ids=table.ids(row, length - 1),
                score=log_prob / length_divisor(length, sequence.options),
                log_prob=log_prob,
                finish_reason=reason,
                token_scores=scores if sequence.options.return_token_scores else None,
                alignment=self._align(sequence, 0) if sequence.options.return_alignments else None,
            )
        )


def _draw(sequence: Sequence, row: int, step: int, output: StepOutput) -> tuple[int, float]:
    draw = uniform(sequence.seed, step)
    if needs_full_row(sequence):
        if output.log_probs is None:
            raise RuntimeError("a sampling row got no full row: this is a bug")
        return sample_full_row(output.log_probs[row], sequence.options, draw=draw)
    return sample(output.top_ids[row], output.top_log_probs[row], sequence.options, draw=draw)
