"""What is shared: a worker's time between interactive and bulk rows, and the cores between workers."""

from __future__ import annotations

_MEMORY = 0.9  # weight kept by past turns for each new one


class TimeShare:
    """Lets bulk rows take part in a turn only while they have had less than their share of the worker's time.

    Where both classes run, interactive rows step alone and each such turn earns the bulk rows time in the proportion
    of their share; they join a turn when they have earned what they add to it. So interactive work is slowed by at
    most 1 / (1 - share), however much bulk work there is, and bulk work never stands still.
    """

    def __init__(self, share: float) -> None:
        self._earned_per_second = share / (1.0 - share)
        self._earned = 0.0
        self._added = 0.0
        self._alone = 0.0

    def bulk_joins(self, *, interactive: bool) -> bool:
        """Whether bulk rows take part in this turn, given whether interactive ones run."""
        return not interactive or self._earned >= self._added

    def spent(self, seconds: float, *, interactive: bool, bulk: bool) -> None:
        """A turn took `seconds`; the flags say which classes took part in it."""
        if not interactive:
            self._earned = 0.0
            return
        if bulk:
            added = max(0.0, seconds - self._alone)
            self._added = _MEMORY * self._added + (1.0 - _MEMORY) * added if self._added else added
            self._earned -= added
        else:
            self._alone = _MEMORY * self._alone + (1.0 - _MEMORY) * seconds if self._alone else seconds
            self._earned = min(self._added, self._earned + seconds * self._earned_per_second)


class RunningRows:
    """How many rows each of an engine's workers has promised to sequences; each says so of itself, on its own thread.

    While all rows, running or wanted, are at most `gathered`, they are faster on one worker with everybody's threads
    than spread over several: newcomers then belong to the worker that has the most, and the others run dry.
    """

    def __init__(self, workers: int, *, gathered: int) -> None:
        self.gathered = gathered
        self._rows = [0] * workers

    def report(self, worker: int, rows: int) -> None:
        """Worker number `worker` has promised `rows` rows."""
        self._rows[worker] = rows

    def none_but(self, worker: int) -> bool:
        """Whether no other worker has sequences."""
        return sum(self._rows) == self._rows[worker]

    def gather_elsewhere(self, worker: int, *, wanted: int) -> bool:
        """Whether newcomers that want `wanted` rows belong to another worker; where none has any, to all."""
        most = max(self._rows)
        return most > 0 and sum(self._rows) + wanted <= self.gathered and self._rows.index(most) != worker
