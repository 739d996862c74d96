"""One search step over a batch: hands each sequence to the search it asked for."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np

from service.engine.beam import BeamSearch
from service.engine.greedy import SAMPLING_BEST, GreedySearch
from service.engine.rows import RowTable
from service.engine.runner import ModelLimits, RowCopy, StepOutput
from service.engine.sequence import Aligner, Sequence
from service.engine.slots import RowPool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """Sequences with their hypotheses complete, those whose numbers broke, and copies that the next step needs."""

    finished: list[Sequence]
    broken: list[Sequence]
    copies: list[RowCopy]


class Search:
    """Chooses the next token of every row that took part in a step."""

    def __init__(self, limits: ModelLimits, table: RowTable, pool: RowPool, align: Aligner) -> None:
        self._table = table
        self._greedy = GreedySearch(limits, table, align)
        self._beam = BeamSearch(limits, table, pool, align)

    def advance(self, running: Many[Sequence], output: StepOutput) -> SearchOutcome:
        """Extend `running` by one token each; a row without a finite best token breaks its sequence, no other."""
        broken = self._broken(running, output)
        singles: list[Sequence] = []
        beams: defaultdict[tuple[int, int], list[Sequence]] = defaultdict(list)
        for sequence in running:
            if sequence in broken:
                continue
            sequence.steps += 1
            if sequence.options.return_alignments and output.alignment_queries is not None:
                queries = output.alignment_queries[sequence.rows].copy()
                sequence.trace.append((np.arange(len(sequence.rows)), queries))
            if sequence.options.beam_size == 1 or sequence.steps <= len(sequence.options.target_prefix):
                singles.append(sequence)
            else:
                beams[len(sequence.rows), sequence.options.beam_size].append(sequence)
        finished = self._greedy.advance(singles, output) if singles else []
        copies: list[RowCopy] = []
        for group in beams.values():
            done, branches = self._beam.advance(group, output)
            finished += done
            copies += branches
        self._stream(singles)
        return SearchOutcome(finished, broken, copies)

    def _broken(self, running: Many[Sequence], output: StepOutput) -> list[Sequence]:
        finite = np.isfinite(output.top_log_probs[:, 0])
        if finite.all():
            return []
        return [sequence for sequence in running if not finite[sequence.rows].all()]

    def _stream(self, singles: Iterable[Sequence]) -> None:
        for sequence in singles:
            if sequence.on_token is None:
                continue
            row = int(sequence.rows[0])
            ids = self._table.ids(row, int(self._table.lengths[row]))
            try:
                sequence.on_token(ids[:-1] if sequence.finished else ids)
            except Exception:
                log.exception("a caller's token callback failed")
                sequence.cancelled = True


def best_wanted(sequence: Sequence) -> int:
    """How many of the best tokens of a step `sequence` needs."""
    options = sequence.options
    if options.sampling:
        return options.top_k if 0 < options.top_k <= SAMPLING_BEST else 1
    return 2 * options.beam_size if options.beam_size > 1 else 1
