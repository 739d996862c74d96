"""Never more sentences in flight than were asked for, and no fewer where there is work."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from loadtests.bench.closed_loop import Call, calls_of, closed_loop


class Watched:
    """A library that answers from another thread and keeps count of what is in flight."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._in_flight = 0
        self.most = 0
        self.order: list[int] = []

    def start(self, call: Call) -> Future[list[int]]:
        """Take a call in."""
        with self._lock:
            self._in_flight += len(call)
            self.most = max(self.most, self._in_flight)
            self.order += call
        return self._pool.submit(self._answer, list(call))

    def _answer(self, call: list[int]) -> list[int]:
        with self._lock:
            self._in_flight -= len(call)
        return [index * 10 for index in call]


@pytest.mark.parametrize(("in_flight", "call_size"), [(1, 1), (8, 1), (8, 4), (8, 8), (7, 3)])
def test_never_more_in_flight_than_asked_for(in_flight: int, call_size: int) -> None:
    """However fast or slow answers come, the sentences under way stay within the limit and every one is answered."""
    calls = calls_of([5] * 101, call_size=call_size, longest_first=False)
    with ThreadPoolExecutor(max_workers=4) as pool:
        watched = Watched(pool)
        answers = closed_loop(calls, watched.start, in_flight=in_flight)
    assert watched.most <= in_flight
    assert [value for answer in answers for value in answer] == [index * 10 for index in range(101)]


def test_a_call_starts_as_soon_as_one_ends() -> None:
    """The loop fills the room there is, and one answer lets exactly one more in."""
    started: list[Future[int]] = []
    changed = threading.Semaphore(0)

    def start(call: Call) -> Future[int]:
        future: Future[int] = Future()
        started.append(future)
        changed.release()
        return future

    loop: Callable[[], list[int]] = lambda: closed_loop([[0], [1], [2], [3]], start, in_flight=2)  # noqa: E731
    with ThreadPoolExecutor(max_workers=1) as pool:
        done = pool.submit(loop)
        for _ in range(2):
            assert changed.acquire(timeout=30)
        assert len(started) == 2
        started[1].set_result(11)
        assert changed.acquire(timeout=30)
        assert len(started) == 3
        started[0].set_result(10)
        started[2].set_result(12)
        assert changed.acquire(timeout=30)
        started[3].set_result(13)
        assert done.result(timeout=30) == [10, 11, 12, 13]


def test_a_call_that_can_never_start_is_refused() -> None:
    """A call larger than the room is an error, not a wait for ever."""
    with pytest.raises(ValueError, match="more than the 2"):
        closed_loop([[0, 1, 2]], lambda call: Future(), in_flight=2)


def test_a_failed_call_is_not_lost() -> None:
    """What a call raised comes out of the loop."""

    def start(call: Call) -> Future[int]:
        future: Future[int] = Future()
        future.set_exception(RuntimeError("broken"))
        return future

    with pytest.raises(RuntimeError, match="broken"):
        closed_loop([[0], [1]], start, in_flight=1)


def test_calls_hold_every_sentence_once() -> None:
    """Calls keep the file's order, or go from the longest source to the shortest, equal ones in the file's order."""
    lengths = [3, 9, 9, 1, 5]
    assert calls_of(lengths, call_size=2, longest_first=False) == [[0, 1], [2, 3], [4]]
    assert calls_of(lengths, call_size=2, longest_first=True) == [[1, 2], [4, 0], [3]]
