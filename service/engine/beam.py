"""Beam search, vectorised over all sentences of a step that have the same beam size."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.engine.options import StoppingRule
from service.engine.rows import RowTable
from service.engine.runner import ModelLimits, RowArray, RowCopy, StepOutput
from service.engine.scoring import length_divisor
from service.engine.sequence import Aligner, FinishReason, FloatArray, Hypothesis, Sequence
from service.engine.slots import RowPool

Lanes = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The 2 x beam best continuations of each sentence, best first; arrays (sentences, 2 x beam)."""

    totals: FloatArray
    log_probs: FloatArray
    tokens: RowArray
    lanes: Lanes


def best_candidates(scores: FloatArray, top_ids: RowArray, top_log_probs: FloatArray, width: int) -> Candidates:
    """Merge lanes: `scores` (S, lanes), `top_*` (S, lanes, width) -> the `width` best of each sentence.

    Twice the beam is enough to always have a full beam that goes on, as each lane ends in one way only
    (transformers' beam search keeps as many). Ties go to the lower lane, then to the better rank.
    """
    sentences = scores.shape[0]
    totals = (scores[:, :, None] + top_log_probs).reshape(sentences, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, :width]
    chosen = order + np.arange(sentences)[:, None] * totals.shape[1]
    return Candidates(
        totals=totals.ravel()[chosen],
        log_probs=top_log_probs.ravel()[chosen],
        tokens=top_ids.ravel()[chosen],
        lanes=order // width,
    )


def place(parents: Lanes) -> Lanes:
    """Put children (S, beam), given by their parent lanes, on lanes so that as many as can stay on their parent's.

    Returns (S, beam): the child that sits on each lane. A lane whose hypothesis has no child is free, so whatever is
    copied onto it overwrites nothing that is still needed.
    """
    return np.array([_placed(lanes) for lanes in parents.tolist()], np.intp).reshape(parents.shape)


def _placed(parents: list[int]) -> list[int]:
    """`place` for one sentence; so few numbers are faster in plain Python."""
    child_on = [-1] * len(parents)
    displaced: list[int] = []
    for child, parent in enumerate(parents):
        if child_on[parent] < 0:
            child_on[parent] = child
        else:
            displaced.append(child)
    waiting = iter(displaced)
    return [child if child >= 0 else next(waiting) for child in child_on]


class BeamSearch:
    """Advances beams; finished hypotheses gather on their Sequence until its stopping rule is met."""

    def __init__(self, limits: ModelLimits, table: RowTable, pool: RowPool, align: Aligner) -> None:
        self._eos_id = limits.eos_id
        self._table = table
        self._pool = pool
        self._align = align

    def advance(self, group: Many[Sequence], output: StepOutput) -> tuple[list[Sequence], list[RowCopy]]:
        """One step for sentences with equal beam size and equal number of lanes (one at first, then `beam_size`).

        Returns the sentences that are done and the key/value copies that the next step needs.
        """
        table = self._table
        rows = np.concatenate([sequence.rows for sequence in group]).reshape(len(group), -1)
        width = 2 * group[0].options.beam_size
        found = best_candidates(
            table.scores[rows], output.top_ids[rows][:, :, :width], output.top_log_probs[rows][:, :, :width], width
        )
        lengths = table.lengths[rows[:, 0]] + 1
        last_step = lengths >= table.limits[rows[:, 0]]
        done = np.zeros(len(group), bool)
        for index in np.flatnonzero(last_step).tolist():
            self._force_end(group[index])
            done[index] = True
        self._collect(group, rows, found, lengths, done)
        survivors = self._survivors(found, width // 2)
        self._check_done(group, found, survivors, lengths, done)
        going = np.flatnonzero(~done)
        copies = self._move_on([group[index] for index in going.tolist()], rows[going], found, survivors[going], going)
        return [group[index] for index in np.flatnonzero(done).tolist()], copies

    def _collect(
        self, group: Many[Sequence], rows: Lanes, found: Candidates, lengths: npt.NDArray[np.int32], done: Lanes
    ) -> None:
        """Record candidates that end inside the beam."""
        beam = group[0].options.beam_size
        ends = found.tokens[:, :beam] == self._eos_id
        for index, rank in zip(*np.nonzero(ends & ~done[:, None]), strict=True):
            lane = int(found.lanes[index, rank])
            self._finish(
                group[index],
                lane=lane,
                length=int(lengths[index]),
                log_prob=float(found.totals[index, rank]),
                end_score=float(found.log_probs[index, rank]),
            )

    def _force_end(self, sequence: Sequence) -> None:
        """The output limit is reached: every lane ends here, EOS adding nothing (the reference's forced EOS)."""
        length = int(self._table.lengths[sequence.rows[0]]) + 1
        for lane, row in enumerate(sequence.rows):
            score = float(self._table.scores[row])
            if np.isfinite(score) or lane == 0:
                self._finish(sequence, lane=lane, length=length, log_prob=score, end_score=None)

    def _finish(self, sequence: Sequence, *, lane: int, length: int, log_prob: float, end_score: float | None) -> None:
        table, row, options = self._table, int(sequence.rows[lane]), sequence.options
        scores: tuple[float, ...] | None = None
        if options.return_token_scores:
            ending = () if end_score is None else (end_score,)
            scores = (*table.token_scores[row, : length - 1].tolist(), *ending)
        sequence.finished.append(
            Hypothesis(
                ids=table.ids(row, length - 1),
                score=log_prob / length_divisor(length, options),
                log_prob=log_prob,
                finish_reason=FinishReason.LENGTH if end_score is None else FinishReason.EOS,
                token_scores=scores,
                alignment=self._align(sequence, lane) if options.return_alignments else None,
            )
        )
        sequence.finished.sort(key=lambda hypothesis: -hypothesis.score)
        del sequence.finished[options.beam_size :]

    def _survivors(self, found: Candidates, beam: int) -> Lanes:
        """Ranks (S, beam) of the best candidates that go on."""
        return np.argsort(found.tokens == self._eos_id, axis=1, kind="stable")[:, :beam]

    def _check_done(
        self,
        group: Many[Sequence],
        found: Candidates,
        survivors: Lanes,
        lengths: npt.NDArray[np.int32],
        done: npt.NDArray[np.bool_],
    ) -> None:
        """Mark sentences whose stopping rule is met (see StoppingRule)."""
        for index, sequence in enumerate(group):
            options = sequence.options
            if done[index] or not sequence.finished:
                continue
            if options.stopping_rule is StoppingRule.MARIAN:
                best_ended = found.tokens[index, 0] == self._eos_id
                done[index] = best_ended and len(sequence.finished) >= options.num_hypotheses
            elif len(sequence.finished) == options.beam_size:
                running = float(found.totals[index, survivors[index, 0]])
                best_possible = running / length_divisor(int(lengths[index]), options)
                done[index] = best_possible <= sequence.finished[-1].score

    def _move_on(
        self, group: Many[Sequence], rows: Lanes, found: Candidates, survivors: Lanes, going: Lanes
    ) -> list[RowCopy]:
        """Give each surviving candidate a row, move what must move, and append the chosen tokens."""
        if not group:
            return []
        beam = group[0].options.beam_size
        every = going[:, None]
        parents = found.lanes[every, survivors]
        spreads = rows.shape[1] < beam
        if spreads:
            child_on = np.broadcast_to(np.arange(beam), parents.shape)
            rows = self._spread(group, rows, beam)
        else:
            child_on = place(parents)
        here = np.arange(len(group))[:, None]
        parents, ranks = parents[here, child_on], survivors[here, child_on]
        moved = parents != np.arange(beam)
        sources, targets = rows[here, parents][moved], rows[moved]
        copies = self._table.row_copies(sources, targets) if spreads else self._table.branch_copies(sources, targets)
        self._table.copy(sources, targets)
        flat = rows.ravel()
        self._table.append(flat, found.tokens[every, ranks].ravel(), found.log_probs[every, ranks].ravel())
        self._table.scores[flat] = found.totals[every, ranks].ravel()
        for index, sequence in enumerate(group):
            if sequence.options.return_alignments:
                sequence.trace[-1] = (parents[index], sequence.trace[-1][1])
        return copies

    def _spread(self, group: Many[Sequence], rows: Lanes, beam: int) -> Lanes:
        """After the first free step a beam takes the rest of the rows that it was promised."""
        wider = np.empty((len(group), beam), np.intp)
        wider[:, 0] = rows[:, 0]
        for index, sequence in enumerate(group):
            wider[index, 1:] = [self._pool.take() for _ in range(beam - 1)]
            sequence.rows = wider[index]
        return wider
