"""Identical sentences are decoded once: later ones are answered from the cache, those in flight share one decoding.

Decoding does not depend on company, so that a shared answer equals a fresh one. Shared is only what is repeatable: not
sampling without a seed, and no model whose answers do depend on company.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from service.engine import DecodingOptions, DecodingResult, Engine, Priority, Ticket
from service.errors import CancelledError, DeadlineError, DragomanError
from service.translator.cache import DecodingCache, DecodingKey
from service.translator.catalogue import ServedModel

OnToken = Callable[[tuple[int, ...]], None]


class Origin(Enum):
    """Where a sentence's decoding came from: `UNSHARED` is what may not be, or where the cache is off."""

    HIT = "hit"
    COALESCED = "coalesced"
    MISS = "miss"
    UNSHARED = "unshared"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDecoding:
    """An answer to come, and the way to call it off; calling off touches nobody else who waits for the same."""

    origin: Origin
    future: Future[DecodingResult]
    cancel: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Waiter:
    """One of those who wait for a flight."""

    priority: Priority
    deadline: float | None
    on_token: OnToken | None
    follows: bool
    future: Future[DecodingResult] = field(default_factory=Future)
    flight: _Flight | None = None
    left: bool = False


@dataclass(slots=True, eq=False)
class _Flight:
    """A decoding under way; `streams` if it tells its tokens."""

    key: DecodingKey
    priority: Priority
    deadline: float | None
    streams: bool
    waiters: list[_Waiter] = field(default_factory=list)
    ticket: Ticket | None = None

    def suits(self, waiter: _Waiter) -> bool:
        """Whether `waiter` gets here what it would get from a decoding of its own: no lower class, and its tokens."""
        in_class = self.priority is Priority.INTERACTIVE or waiter.priority is Priority.BULK
        return in_class and (self.streams or waiter.on_token is None)

    def tell(self, ids: tuple[int, ...]) -> None:
        """Hand the tokens so far to those who want them."""
        for waiter in tuple(self.waiters):
            if waiter.on_token is not None:
                waiter.on_token(ids)


class SharedDecoding:
    """Decodes through engines, each identical sentence once; without a cache every sentence by itself."""

    def __init__(self, cache: DecodingCache | None) -> None:
        self._cache = cache
        self._flights: dict[DecodingKey, _Flight] = {}
        self._lock = threading.Lock()

    def submit(
        self,
        model: ServedModel,
        source_ids: tuple[int, ...],
        options: DecodingOptions,
        *,
        priority: Priority,
        deadline: float | None,
        on_token: OnToken | None,
        follows: bool = False,
    ) -> PendingDecoding:
        """As `Engine.submit` of the model's engine."""
        if self._cache is None or not model.repeatable or (options.sampling and options.seed is None):
            ticket = model.engine.submit(
                source_ids, options, priority=priority, deadline=deadline, follows=follows, on_token=on_token
            )
            return PendingDecoding(origin=Origin.UNSHARED, future=ticket.future, cancel=ticket.cancel)
        key = DecodingKey((model.id, model.version), options, source_ids)
        waiter = _Waiter(priority, deadline, on_token, follows)
        waiter.future.set_running_or_notify_cancel()  # answers come from us alone
        origin = self._provide(model.engine, key, waiter, self._cache)
        return PendingDecoding(origin=origin, future=waiter.future, cancel=partial(self._leave, waiter))

    def _provide(self, engine: Engine, key: DecodingKey, waiter: _Waiter, cache: DecodingCache) -> Origin:
        """Answers `waiter`, or sees to it that it will be; raises what the engine refuses it with."""
        with self._lock:
            # Looked up under the lock that a flight lands under: it is here or there, never nowhere between.
            found = cache.get(key)
            flight = self._flights.get(key)
            if found is None and flight is not None and flight.suits(waiter):
                flight.waiters.append(waiter)
                waiter.flight = flight
                return Origin.COALESCED
        if found is not None:
            waiter.future.set_result(found)
            return Origin.HIT
        self._start(engine, key, waiter, cache)
        return Origin.MISS

    def _start(self, engine: Engine, key: DecodingKey, waiter: _Waiter, cache: DecodingCache) -> None:
        flight = _Flight(key, waiter.priority, waiter.deadline, streams=waiter.on_token is not None, waiters=[waiter])
        waiter.flight = flight
        ticket = engine.submit(
            key.source_ids,
            key.options,
            priority=flight.priority,
            deadline=flight.deadline,
            follows=waiter.follows,
            on_token=flight.tell if flight.streams else None,
        )
        with self._lock:
            flight.ticket = ticket
            abandoned = waiter.left
            if not abandoned:
                self._flights[key] = flight
        ticket.future.add_done_callback(partial(self._land, flight, engine, cache))
        if abandoned:
            ticket.cancel()

    def _land(self, flight: _Flight, engine: Engine, cache: DecodingCache, future: Future[DecodingResult]) -> None:
        """Answers all who wait. Those whose deadline is later than one that has ended the flight start again."""
        error = future.exception()
        with self._lock:
            self._forget(flight)
            if error is None:
                cache.put(flight.key, future.result())
            waiters, flight.waiters, flight.ticket = flight.waiters, [], None
        for waiter in waiters:
            if error is None:
                waiter.future.set_result(future.result())
            elif isinstance(error, DeadlineError) and waiter.deadline != flight.deadline:
                self._start_again(engine, flight.key, waiter, cache)
            else:
                waiter.future.set_exception(error)

    def _start_again(self, engine: Engine, key: DecodingKey, waiter: _Waiter, cache: DecodingCache) -> None:
        try:
            self._provide(engine, key, waiter, cache)
        except DragomanError as refusal:
            waiter.future.set_exception(refusal)

    def _leave(self, waiter: _Waiter) -> None:
        """Takes `waiter` out; the last one takes the decoding with it. Harmless when already answered."""
        with self._lock:
            waiter.left = True
            flight = waiter.flight
            if flight is None or waiter not in flight.waiters:
                return
            flight.waiters.remove(waiter)
            ticket = None if flight.waiters else flight.ticket
            if not flight.waiters:
                self._forget(flight)
        waiter.future.set_exception(CancelledError("cancelled by the caller"))
        if ticket is not None:
            ticket.cancel()

    def _forget(self, flight: _Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
