"""What one caller may ask for per second: token buckets for calls and for characters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from service.errors import QuotaError
from service.tokens import TokenLimits

_LEAST_RETRY_SECONDS = 0.01


class TokenBucket:
    """Fills at `rate` per second up to `capacity`.

    What is larger than the capacity is let through when the bucket is full, and leaves it in debt: a long text is slow,
    never impossible.
    """

    def __init__(self, *, rate: float, capacity: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._capacity = capacity
        self._clock = clock
        self._level = capacity
        self._filled = clock()

    def take(self, amount: float) -> float:
        """Takes `amount` and returns 0, or takes nothing and returns the seconds until it may be asked for again."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._filled) * self._rate)
        self._filled = now
        missing = min(amount, self._capacity) - self._level
        if missing > 0:
            return max(missing / self._rate, _LEAST_RETRY_SECONDS)
        self._level -= amount
        return 0.0


class Quota:
    """A caller's buckets; what has no limit is always allowed. Used from one event loop."""

    def __init__(self, limits: TokenLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._calls = _bucket(limits.calls_per_second, least=1.0, limits=limits, clock=clock)
        self._characters = _bucket(limits.characters_per_second, least=0.0, limits=limits, clock=clock)
        self._turn = asyncio.Lock()

    def charge_call(self) -> None:
        """Counts a call. Raises QuotaError."""
        self._charge(self._calls, 1.0, "calls")

    def charge_characters(self, count: int) -> None:
        """Counts the code points of a call's texts. Raises QuotaError."""
        self._charge(self._characters, count, "characters")

    async def wait_for_characters(self, count: int) -> None:
        """Counts code points, after waiting for them if need be, first come first served: for bulk streams."""
        if self._characters is None:
            return
        async with self._turn:
            while seconds := self._characters.take(count):
                await asyncio.sleep(seconds)

    def _charge(self, bucket: TokenBucket | None, amount: float, what: str) -> None:
        seconds = 0.0 if bucket is None else bucket.take(amount)
        if seconds:
            message = f"this token's {what} per second are used up"
            raise QuotaError(message, limit=what, retry_after_seconds=seconds)


def _bucket(rate: float | None, *, least: float, limits: TokenLimits, clock: Callable[[], float]) -> TokenBucket | None:
    if rate is None:
        return None
    return TokenBucket(rate=rate, capacity=max(least, rate * limits.burst_seconds), clock=clock)
