"""The one shared queue: who is let in, who is refused at once, and who joins a batch next."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass

from service.engine.cost import CostModel
from service.engine.observer import EngineObserver, RefusalReason
from service.engine.options import Priority
from service.engine.sequence import Sequence, SequenceStatus
from service.errors import DeadlineError, OverloadedError, UnavailableError

_LEAST_RETRY_SECONDS = 0.05
"""An engine that has not yet learned how long things take must not invite callers to try again at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Bounds and weights of admission.

    `max_encode_tokens` bounds longest x count of one encoder batch, `shared_encode_tokens` the same while interactive
    sequences run, which wait for it; `bulk_time_share` is the part of a worker's time that bulk rows get while
    interactive ones run; `reserved_rows` are rows of each worker that bulk
    work may not take; while both classes wait, interactive gets `interactive_share` of the tokens admitted;
    `max_overtakes` is how many later sequences may pass one that needs more rows than are free.
    `static_batching` lets a worker take new sequences only when none runs, for comparison.
    """

    max_waiting_sequences: int = 2048
    max_waiting_tokens: int = 131_072
    max_encode_tokens: int = 2048
    shared_encode_tokens: int = 512
    bulk_time_share: float = 0.4
    reserved_rows: int = 0
    interactive_share: float = 0.8
    max_overtakes: int = 16
    static_batching: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a worker has free when it asks for more: rows in all, rows that bulk may take, sentence slots, and the
    bound on longest x count of what is encoded together."""

    rows: int
    bulk_rows: int
    sentences: int
    encode_tokens: int


class Scheduler:
    """Bounded admission queue of two classes, drawn from by all workers under one lock.

    Each class is first in, first out, except that a sequence which needs more rows than are free may be passed by
    `max_overtakes` others, then by none. Between classes the one that has had fewer tokens for its share goes first.
    """

    def __init__(
        self, limits: EngineLimits, *, row_slots: int, observer: EngineObserver, clock: Callable[[], float]
    ) -> None:
        self.cost = CostModel()
        self._limits = limits
        self._row_slots = row_slots
        self._observer = observer
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: dict[Priority, dict[int, Sequence]] = {priority: {} for priority in Priority}
        self._served = dict.fromkeys(Priority, 0.0)
        self._deadlines: list[tuple[float, int]] = []  # with the id of the sequence
        self._tokens = 0
        self._row_steps = 0.0
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, sequence: Sequence) -> None:
        """Queue `sequence`, or refuse it at once.

        Raises OverloadedError when the queue is full, DeadlineError when it is not expected to finish in time,
        UnavailableError when draining.
        """
        with self._changed:
            if self._closed:
                self._observer.refused(RefusalReason.DRAINING)
                raise UnavailableError("the service is shutting down")
            tokens = len(sequence.source_ids)
            wait = self.cost.wait_seconds(self._row_steps, self._row_slots)
            full = len(self) >= self._limits.max_waiting_sequences
            if full or (len(self) and self._tokens + tokens > self._limits.max_waiting_tokens):
                self._observer.refused(RefusalReason.QUEUE_FULL)
                raise OverloadedError("the queue is full", retry_after_seconds=max(wait, _LEAST_RETRY_SECONDS))
            run = self.cost.run_seconds(tokens, sequence.max_output_tokens)
            if sequence.deadline is not None and self._clock() + wait + run > sequence.deadline:
                self._observer.refused(RefusalReason.DEADLINE)
                raise DeadlineError("the answer is not expected before the deadline")
            self._enqueue(sequence)
            self._changed.notify()

    def _enqueue(self, sequence: Sequence) -> None:
        waiting = self._waiting[sequence.priority]
        if not waiting:  # an idle class does not save up its share
            self._served[sequence.priority] = max(self._served[sequence.priority], self._least_served())
        waiting[id(sequence)] = sequence
        self._count(sequence, 1)
        if sequence.deadline is not None:
            heapq.heappush(self._deadlines, (sequence.deadline, id(sequence)))

    def _least_served(self) -> float:
        busy = [self._served[priority] for priority, waiting in self._waiting.items() if waiting]
        return min(busy, default=0.0)

    def _count(self, sequence: Sequence, sign: int) -> None:
        self._tokens += sign * len(sequence.source_ids)
        self._row_steps += sign * self.cost.steps(len(sequence.source_ids)) * sequence.row_demand
        if not len(self):
            self._row_steps = 0.0  # expectations change while a sequence waits, so the sum drifts
        self._observer.queue(len(self), self._tokens)

    def schedule(self, room: Room) -> list[Sequence]:
        """Take the sequences that join a worker's batch now; they become RUNNING."""
        with self._changed:
            chosen: list[Sequence] = []
            longest = 0
            while room.sentences > len(chosen):
                found = self._next(room)
                if found is None:
                    break
                sequence, passed = found
                longest = max(longest, len(sequence.source_ids))
                if chosen and longest * (len(chosen) + 1) > room.encode_tokens:
                    break
                for other in passed:
                    other.overtaken += 1
                self._remove(sequence)
                self._charge(sequence)
                sequence.status = SequenceStatus.RUNNING
                chosen.append(sequence)
                bulk = sequence.row_demand if sequence.priority is Priority.BULK else 0
                room = Room(
                    rows=room.rows - sequence.row_demand,
                    bulk_rows=min(room.bulk_rows - bulk, room.rows - sequence.row_demand),
                    sentences=room.sentences,
                    encode_tokens=room.encode_tokens,
                )
            return chosen

    def _next(self, room: Room) -> tuple[Sequence, list[Sequence]] | None:
        """Whoever is next among those that fit into `room`, and those it passes."""
        for priority in sorted(Priority, key=lambda each: self._served[each]):
            rows = room.bulk_rows if priority is Priority.BULK else room.rows
            passed: list[Sequence] = []
            for sequence in self._waiting[priority].values():
                if sequence.row_demand <= rows:
                    return sequence, passed
                if sequence.overtaken >= self._limits.max_overtakes:
                    if sequence.row_demand > room.rows:
                        return None  # rows gather for it: nobody of either class takes them
                    break
                passed.append(sequence)
        return None

    def _charge(self, sequence: Sequence) -> None:
        share = self._limits.interactive_share
        weight = share if sequence.priority is Priority.INTERACTIVE else 1.0 - share
        self._served[sequence.priority] += len(sequence.source_ids) * sequence.row_demand / weight

    def _remove(self, sequence: Sequence) -> None:
        del self._waiting[sequence.priority][id(sequence)]
        self._count(sequence, -1)

    def abort(self, sequence: Sequence) -> bool:
        """Take `sequence` out if it still waits; says whether it did."""
        with self._changed:
            if id(sequence) not in self._waiting[sequence.priority]:
                return False
            self._remove(sequence)
            sequence.status = SequenceStatus.FINISHED
            return True

    def expire(self) -> list[Sequence]:
        """Take out the waiting sequences whose deadline has passed."""
        with self._changed:
            expired: list[Sequence] = []
            now = self._clock()
            while self._deadlines and self._deadlines[0][0] <= now:
                key = heapq.heappop(self._deadlines)[1]
                sequence = next((waiting[key] for waiting in self._waiting.values() if key in waiting), None)
                # One that has left is not kept for its deadline's sake, so another may have its id by now.
                if sequence is not None and sequence.deadline is not None and sequence.deadline <= now:
                    self._remove(sequence)
                    sequence.status = SequenceStatus.FINISHED
                    expired.append(sequence)
            return expired

    def learn(self, finished: list[tuple[int, int]], *, encode_seconds: float, decode_seconds: float) -> None:
        """Tell the cost model of a turn: `finished` holds (source tokens, steps) of each sentence that ended by EOS."""
        with self._changed:
            self.cost.saw_step(encode_seconds=encode_seconds, decode_seconds=decode_seconds)
            for source_tokens, steps in finished:
                self.cost.saw_sequence(source_tokens=source_tokens, steps=steps)

    def wait_for_work(self, timeout_seconds: float) -> None:
        """Return when something waits, the queue closes, or the timeout passes."""
        with self._changed:
            if not len(self) and not self._closed:
                self._changed.wait(timeout_seconds)

    def close(self) -> None:
        """Refuse everything from now on; what waits is still served."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Let every worker look around."""
        with self._changed:
            self._changed.notify_all()

    def take_all(self) -> list[Sequence]:
        """Empty the queue; the caller owes each sequence its answer."""
        with self._changed:
            left = [sequence for waiting in self._waiting.values() for sequence in waiting.values()]
            for sequence in left:
                self._remove(sequence)
                sequence.status = SequenceStatus.FINISHED
            return left
