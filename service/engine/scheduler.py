"""The one shared queue: who is let in, who is refused at once, and who joins a batch next."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable

from service.engine.cost import CostModel
from service.engine.limits import EngineLimits, Room
from service.engine.observer import EngineObserver, RefusalReason
from service.engine.options import Priority
from service.engine.sequence import Sequence, SequenceStatus
from service.errors import DeadlineRefusalError, OverloadedError, UnavailableError

_FORGETTING_SECONDS = 10.0
"""An idle engine that refuses what it believes to be too much would never learn that it is wrong: while no step is
made, its expectations halve in this time."""

_ENDED_KEPT = 1024
"""Deadlines of sequences that have left the queue stay until they are this many more than those that wait."""

_LEAST_RETRY_SECONDS = 0.05
"""An engine that has not yet learned how long things take must not invite callers to try again at once."""


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
        self._latest_starts: list[tuple[float, int]] = []  # with the id of the sequence
        self._count_waiting = 0
        self._tokens = 0
        self._row_steps = dict.fromkeys(Priority, 0.0)
        self._learned = clock()
        self._closed = False

    def __len__(self) -> int:
        return self._count_waiting

    def add(self, sequence: Sequence) -> None:
        """Queue `sequence`, or refuse it at once.

        Raises OverloadedError when the queue is full, DeadlineRefusalError when it is not expected to finish in time,
        UnavailableError when draining.
        """
        with self._changed:
            if self._closed:
                self._observer.refused(RefusalReason.DRAINING)
                raise UnavailableError("the service is shutting down")
            tokens = len(sequence.source_ids)
            wait = self.cost.wait_seconds(self._row_steps_before(sequence.priority), self._row_slots)
            full = len(self) >= self._limits.max_waiting_sequences
            if full or (len(self) and self._tokens + tokens > self._limits.max_waiting_tokens):
                self._observer.refused(RefusalReason.QUEUE_FULL)
                raise OverloadedError("the queue is full", retry_after_seconds=max(wait, _LEAST_RETRY_SECONDS))
            if self._is_late(sequence, wait):
                self._observer.refused(RefusalReason.DEADLINE)
                raise DeadlineRefusalError("the answer is not expected before the deadline")
            self._enqueue(sequence)
            self._changed.notify()

    def _is_late(self, sequence: Sequence, wait: float) -> bool:
        """Whether it is not expected to be answered in time, or only after too long a wait."""
        if sequence.deadline is None:
            return False
        run = self._run_seconds(sequence, caution=self._limits.caution if len(self) else 0.0)
        left = sequence.deadline - self._clock()
        return wait + run > left or (not sequence.follows and wait > self._limits.max_wait_share * left)

    def _enqueue(self, sequence: Sequence) -> None:
        waiting = self._waiting[sequence.priority]
        if not waiting:  # an idle class does not save up its share
            self._served[sequence.priority] = max(self._served[sequence.priority], self._least_served())
        waiting[id(sequence)] = sequence
        self._count(sequence, 1)
        if sequence.deadline is not None:
            heapq.heappush(self._latest_starts, (self._latest_start(sequence), id(sequence)))
            if len(self._latest_starts) > 2 * len(self) + _ENDED_KEPT:
                self._forget_ended()

    def _forget_ended(self) -> None:
        """Keep the deadlines of those that wait alone: bulk work may have deadlines of days."""
        waiting = (sequence for each in self._waiting.values() for sequence in each.values())
        live = [(self._latest_start(each), id(each)) for each in waiting if each.deadline is not None]
        heapq.heapify(live)
        self._latest_starts = live

    def _latest_start(self, sequence: Sequence) -> float:
        """When its decoding must begin to end by its deadline, as far as is known; never without one."""
        if sequence.deadline is None:
            return math.inf
        return sequence.deadline - self._run_seconds(sequence, caution=0.0)

    def _run_seconds(self, sequence: Sequence, *, caution: float) -> float:
        forgotten = math.exp2(-(self._clock() - self._learned) / _FORGETTING_SECONDS)
        run = self.cost.run_seconds(len(sequence.source_ids), sequence.max_output_tokens, caution=caution)
        return run * forgotten

    def _least_served(self) -> float:
        busy = [self._served[priority] for priority, waiting in self._waiting.items() if waiting]
        return min(busy, default=0.0)

    def _count(self, sequence: Sequence, sign: int) -> None:
        self._count_waiting += sign
        self._tokens += sign * len(sequence.source_ids)
        priority = sequence.priority
        self._row_steps[priority] += sign * self.cost.steps(len(sequence.source_ids)) * sequence.row_demand
        if not self._waiting[priority]:
            self._row_steps[priority] = 0.0  # expectations change while a sequence waits, so the sum drifts
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
                room = room.less(sequence.row_demand, sequence.priority)
            return chosen

    def _next(self, room: Room) -> tuple[Sequence, list[Sequence]] | None:
        """Whoever is next among those that fit into `room`, and those it passes."""
        free = {Priority.INTERACTIVE: room.rows, Priority.BULK: room.bulk_rows}
        for priority in sorted(Priority, key=lambda each: self._served[each]):
            rows = free[priority]
            passed: list[Sequence] = []
            for sequence in self._waiting[priority].values():
                if sequence.row_demand <= rows:
                    return sequence, passed
                if sequence.overtaken >= self._limits.max_overtakes:
                    if sequence.row_demand > room.rows:  # rows gather for it: neither class takes them
                        left = room.beside_bulk_rows if priority is Priority.BULK else 0
                        free = {Priority.INTERACTIVE: left, Priority.BULK: 0}
                    break
                passed.append(sequence)
        return None

    def _share(self, priority: Priority) -> float:
        share = self._limits.interactive_share
        return share if priority is Priority.INTERACTIVE else 1.0 - share

    def _row_steps_before(self, priority: Priority) -> float:
        """Row steps that are taken up before a newcomer: all of its own class, and of the other its share meanwhile."""
        own, share = self._row_steps[priority], self._share(priority)
        others = sum(self._row_steps.values()) - own
        return own + min(others, own * (1.0 - share) / share)

    def _charge(self, sequence: Sequence) -> None:
        spent = len(sequence.source_ids) * sequence.row_demand
        self._served[sequence.priority] += spent / self._share(sequence.priority)

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
        """Take out the waiting sequences that are not expected to end in time any more, even if they started now."""
        with self._changed:
            expired: list[Sequence] = []
            now = self._clock()
            while self._latest_starts and self._latest_starts[0][0] <= now:
                key = heapq.heappop(self._latest_starts)[1]
                sequence = next((waiting[key] for waiting in self._waiting.values() if key in waiting), None)
                # One that has left is not kept for its deadline's sake, so another may have its id by now.
                if sequence is None or sequence.deadline is None:
                    continue
                if (latest := self._latest_start(sequence)) > now:
                    heapq.heappush(self._latest_starts, (latest, key))
                else:
                    self._remove(sequence)
                    sequence.status = SequenceStatus.FINISHED
                    expired.append(sequence)
            return expired

    def learn(self, finished: list[tuple[int, int]], *, encode_seconds: float, decode_seconds: float) -> None:
        """Tell the cost model of a turn: `finished` holds (source tokens, steps) of each sentence that ended by EOS."""
        with self._changed:
            self._learned = self._clock()
            self.cost.saw_step(encode_seconds=encode_seconds, decode_seconds=decode_seconds)
            for source_tokens, steps in finished:
                self.cost.saw_sequence(source_tokens=source_tokens, steps=steps)

    def newcomers(self) -> tuple[int, float]:
        """Rows that all who wait will need, and the seconds that the first of them has waited; 0 where none waits."""
        with self._changed:
            waiting = [sequence for each in self._waiting.values() for sequence in each.values()]
            first = min((sequence.submitted for sequence in waiting), default=self._clock())
            return sum(sequence.row_demand for sequence in waiting), self._clock() - first

    def wait_for_work(self, timeout_seconds: float, *, newcomers_only: bool = False) -> None:
        """Return when something waits or has just come, the queue closes, or the timeout passes."""
        with self._changed:
            if newcomers_only or not (len(self) or self._closed):
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
