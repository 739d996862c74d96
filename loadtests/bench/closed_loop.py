"""The closed loop: a new call starts when there is room for it among those in flight, and never before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

Raw = TypeVar("Raw")
Call = Sequence[int]
"""Indices of the sentences of one call."""


class Room:
    """Counts sentences in flight and lets a call in when it fits."""

    def __init__(self, in_flight: int) -> None:
        self._free = in_flight
        self._changed = threading.Condition()

    def enter(self, sentences: int) -> None:
        """Wait until there is room for `sentences` more, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= sentences)
            self._free -= sentences

    def leave(self, sentences: int) -> None:
        """Give the room of `sentences` back; safe from any thread."""
        with self._changed:
            self._free += sentences
            self._changed.notify()


def closed_loop(calls: Sequence[Call], start: Callable[[Call], Future[Raw]], *, in_flight: int) -> list[Raw]:
    """Start every call in order with at most `in_flight` sentences under way; what each call gave, in order.

    Raises ValueError when a call alone is larger than `in_flight`, and whatever a call raised.
    """
    if any(len(call) > in_flight for call in calls):
        raise ValueError(f"a call holds more than the {in_flight} sentences that may be in flight")
    room = Room(in_flight)
    futures = []
    for call in calls:
        room.enter(len(call))
        future = start(call)
        future.add_done_callback(partial(_leave, room, len(call)))
        futures.append(future)
    return [future.result() for future in futures]


def _leave(room: Room, sentences: int, _: Future[Raw]) -> None:
    room.leave(sentences)


def calls_of(lengths: Sequence[int], *, call_size: int, longest_first: bool) -> list[list[int]]:
    """Cut sentences of these source lengths into calls of `call_size`, in the given order or the longest first."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index]) if longest_first else range(len(lengths))
    indices = list(order)
    return [indices[begin : begin + call_size] for begin in range(0, len(indices), call_size)]
