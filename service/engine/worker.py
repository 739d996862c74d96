"""One worker: a thread's slots and rows, and the turn in which sequences join, step and leave."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import InvalidStateError
from contextlib import suppress

import numpy as np

from service.engine.filters import LogitFilter
from service.engine.greedy import needs_full_row
from service.engine.layout import RowLayout
from service.engine.limits import EngineLimits, Room
from service.engine.observer import EngineObserver, StepRecord
from service.engine.options import Priority
from service.engine.rows import RowTable
from service.engine.runner import Batch, ModelRunner, RowCopy
from service.engine.scheduler import Scheduler
from service.engine.search import Search, best_wanted
from service.engine.sequence import Aligner, DecodingResult, FinishReason, Sequence, SequenceStatus
from service.engine.sharing import RunningRows, TimeShare
from service.engine.slots import RowPool, SlotPool
from service.errors import CancelledError, DeadlineError, DragomanError, EngineError

log = logging.getLogger(__name__)

LONGEST_LEFT_SECONDS = 0.05
"""A newcomer that another worker should have taken, and that still waits, is anybody's."""


class Worker:
    """Owns one runner. Its methods run on the worker's own thread, but for `abandon`."""

    def __init__(
        self,
        number: int,
        runner: ModelRunner,
        scheduler: Scheduler,
        *,
        everybody: RunningRows,
        limits: EngineLimits,
        observer: EngineObserver,
        clock: Callable[[], float],
    ) -> None:
        model = runner.limits
        self.number = number
        self.last_turn = clock()
        self.leaves_newcomers = False
        self.failures = 0
        self._runner = runner
        self._scheduler = scheduler
        self._everybody = everybody
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._table = RowTable(model)
        self._pool = RowPool(model.row_slots)
        self._sentences = SlotPool(model.sentence_slots)
        self._filter = LogitFilter(model)
        self._layout = RowLayout(self._pool, self._table)
        self._search = Search(model, self._table, self._pool, _aligner(runner))
        self._share = TimeShare(limits.bulk_time_share)
        self._running: list[Sequence] = []
        self._branches: list[RowCopy] = []
        self._ended: list[tuple[int, int]] = []

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    def step(self) -> bool:
        """One turn: drop, admit, encode, decode one step, search, retire. False when there was no work.

        `leaves_newcomers` then says whether somebody waits, for another worker; `failures` how many turns in a row the
        runner has failed.
        """
        self._drop_ended()
        self.leaves_newcomers = self._newcomers_gather_elsewhere()
        admitted = [] if self.leaves_newcomers else self._scheduler.schedule(self._room())
        self._everybody.report(self.number, self._pool.reserved + sum(each.row_demand for each in admitted))
        if not self._running and not admitted:
            self.last_turn = self._clock()
            return False
        turn = StepRecord(worker=self.number)
        started = self._clock()
        self._admit(admitted, turn)
        stepping = self._stepping()
        if stepping:
            self._decode(stepping, turn)
        interactive = _any_of(Priority.INTERACTIVE, stepping)
        self._share.spent(
            self._clock() - started, interactive=interactive, bulk=_any_of(Priority.BULK, [*stepping, *admitted])
        )
        self._report(turn)
        self.last_turn = self._clock()
        return True

    def _stepping(self) -> list[Sequence]:
        """Who takes part in this turn's step: everybody, or the interactive ones alone."""
        interactive = [each for each in self._running if each.priority is Priority.INTERACTIVE]
        return list(self._running) if self._share.bulk_joins(interactive=bool(interactive)) else interactive

    def _newcomers_gather_elsewhere(self) -> bool:
        """Whether those who wait, not for long yet, are for the worker that has the most rows."""
        if not 0 < len(self._scheduler) <= self._everybody.gathered:
            return False
        rows, waited = self._scheduler.newcomers()
        return waited < LONGEST_LEFT_SECONDS and self._everybody.gather_elsewhere(self.number, wanted=rows)

    def fail_all(self, error: DragomanError) -> None:
        """End every running sequence with `error` (shutdown)."""
        self._end(list(self._running), FinishReason.ERROR, error)

    def abandon(self, error: DragomanError) -> None:
        """Answer what still runs with `error`, from another thread: this worker's own has stopped or hangs."""
        for sequence in list(self._running):
            self._answer(sequence, FinishReason.ERROR, error)

    def _room(self) -> Room:
        rows, limits = self._pool.unreserved, self._limits
        if limits.static_batching and self._running:
            rows = 0
        shared = _any_of(Priority.INTERACTIVE, self._running)
        held = dict.fromkeys(Priority, 0)
        for sequence in self._running:
            held[sequence.priority] += sequence.row_demand
        bulk_rows = 0
        if self._share.bulk_joins(interactive=shared):
            bulk_rows = max(0, self._pool.capacity - limits.reserved_rows - held[Priority.BULK])
        return Room(
            rows=rows,
            bulk_rows=min(rows, bulk_rows),
            beside_bulk_rows=min(rows, max(0, limits.reserved_rows - held[Priority.INTERACTIVE])),
            sentences=self._sentences.capacity - self._sentences.used,
            encode_tokens=limits.shared_encode_tokens if shared else limits.max_encode_tokens,
        )

    def _drop_ended(self) -> None:
        now = self._clock()
        for sequence in self._scheduler.expire():
            self._answer(
                sequence,
                FinishReason.DEADLINE,
                DeadlineError("after the wait no answer is expected before the deadline"),
            )
        cancelled = [each for each in self._running if each.cancelled]
        if cancelled:
            self._end(cancelled, FinishReason.CANCELLED, CancelledError("cancelled by the caller"))
        expired = [each for each in self._running if each.deadline is not None and each.deadline <= now]
        if expired:
            self._end(expired, FinishReason.DEADLINE, DeadlineError("the deadline passed while translating"))

    def _admit(self, admitted: list[Sequence], turn: StepRecord) -> None:
        """Give slots to the newcomers, make the rows dense, and encode the newcomers as one batch."""
        now = self._clock()
        for sequence in admitted:
            sequence.scheduled = now
            sequence.sentence_slot = self._sentences.take()
            self._pool.reserve(sequence.row_demand)
            row = self._pool.take()
            sequence.rows = np.array([row], np.intp)
            self._table.open(row, sentence_slot=sequence.sentence_slot, limit=sequence.max_output_tokens)
        self._running.extend(admitted)
        self._move_rows(turn)
        if not admitted:
            return
        started = self._clock()
        sources = [each.source_ids for each in admitted]
        try:
            self._runner.encode(
                sources, [each.sentence_slot for each in admitted], [each.row_demand for each in admitted]
            )
        except Exception:
            log.exception("encoding failed")
            turn.failed = True
            self._end(admitted, FinishReason.ERROR, EngineError("encoding failed"))
            self._move_rows(turn)
            return
        turn.encode_seconds = self._clock() - started
        turn.encoded_tokens = sum(map(len, sources))
        turn.padded_tokens = max(map(len, sources)) * len(sources)
        encoded = self._clock()
        for sequence in admitted:
            sequence.encoded = encoded

    def _move_rows(self, turn: StepRecord) -> None:
        """Copy keys/values for branched beams, then bring every row to its place."""
        copies = self._branches + self._layout.arrange(self._running)
        self._branches = []
        if copies:
            turn.copied_bytes += self._runner.copy_rows(copies)

    def _decode(self, running: list[Sequence], turn: StepRecord) -> None:
        """One decode step and one search step for `running`, whose rows come first."""
        rows = sum(len(each.rows) for each in running)
        turn.rows, turn.new_tokens = rows, len(running)
        turn.full_rows = sum(map(needs_full_row, running))
        batch = Batch(
            last_tokens=self._table.last_tokens[:rows],
            past_lengths=self._table.lengths[:rows],
            sentence_slots=self._table.sentence_slots[:rows],
            bans=self._filter.bans(self._table, running, rows),
            best=max(map(best_wanted, running)),
            full_rows=turn.full_rows > 0,
            alone=self._everybody.none_but(self.number),
        )
        started = self._clock()
        try:
            output = self._runner.decode_step(batch)
        except Exception:
            log.exception("a decode step failed")
            turn.failed = True
            self._end(running, FinishReason.ERROR, EngineError("a decode step failed"))
            return
        searched = self._clock()
        turn.decode_seconds = searched - started
        outcome = self._search.advance(running, output)
        self._branches += outcome.copies
        self._end(outcome.broken, FinishReason.ERROR, EngineError("the model gave numbers that are not numbers"))
        now = self._clock()
        for sequence in running:
            if sequence.steps == 1:
                sequence.first_token = now
        self._complete(outcome.finished)
        turn.search_seconds = self._clock() - searched

    def _complete(self, finished: list[Sequence]) -> None:
        self._leave(finished)
        for sequence in finished:
            hypotheses = tuple(sequence.finished[: sequence.options.num_hypotheses])
            reason = hypotheses[0].finish_reason
            if reason is FinishReason.EOS:
                self._ended.append((len(sequence.source_ids), sequence.steps))
            sequence.status = SequenceStatus.FINISHED
            timings = sequence.timings(self._clock())
            self._observer.finished(reason, timings)
            with suppress(InvalidStateError):
                sequence.future.set_result(DecodingResult(hypotheses=hypotheses, timings=timings))

    def _end(self, sequences: list[Sequence], reason: FinishReason, error: DragomanError) -> None:
        """Take `sequences` out of the batch and answer each with `error`."""
        self._leave(sequences)
        for sequence in sequences:
            self._answer(sequence, reason, error)

    def _answer(self, sequence: Sequence, reason: FinishReason, error: DragomanError) -> None:
        sequence.status = SequenceStatus.FINISHED
        self._observer.finished(reason, sequence.timings(self._clock()))
        with suppress(InvalidStateError):  # abandoned at shutdown while its step hung, and answered then
            sequence.future.set_exception(error)

    def _leave(self, sequences: list[Sequence]) -> None:
        """Free the slots of `sequences`; rows that were to be copied onto theirs need not be any more."""
        if not sequences:
            return
        leaving = set(map(id, sequences))
        self._running = [each for each in self._running if id(each) not in leaving]
        gone: set[int] = set()
        for sequence in sequences:
            for row in sequence.rows.tolist():
                self._pool.give_back(row)
                gone.add(row)
            self._pool.unreserve(sequence.row_demand)
            self._sentences.give_back(sequence.sentence_slot)
            self._runner.release(sequence.sentence_slot)
        self._branches = [copy for copy in self._branches if copy.target not in gone]
        self._report_slots()

    def _report_slots(self) -> None:
        self._observer.slots(self.number, self._pool.capacity - self._pool.unreserved, self._sentences.used)

    def _report(self, turn: StepRecord) -> None:
        ended, self._ended = self._ended, []
        self._report_slots()
        if turn.failed:  # it took no time, and would teach that steps take none
            self.failures += 1
            return
        self.failures = 0
        self._scheduler.learn(ended, encode_seconds=turn.encode_seconds, decode_seconds=turn.decode_seconds)
        turn.sentences = len(self._running)
        self._observer.step(turn)


def _aligner(runner: ModelRunner) -> Aligner:
    """A method of the worker would do the same, and keep the runner's memory in a cycle of references."""
    return lambda sequence, lane: runner.align(sequence.sentence_slot, sequence.queries_of(lane))


def _any_of(priority: Priority, sequences: Iterable[Sequence]) -> bool:
    return any(sequence.priority is priority for sequence in sequences)
