"""A monotonic clock that a test moves by hand."""

from __future__ import annotations


class ManualClock:
    """Call it for the time in seconds; `advance` moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the present time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
