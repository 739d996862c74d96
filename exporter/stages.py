"""Progress of a command that has several stages: a bar over the stages and one within a stage that counts things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tqdm import tqdm


class Stages:
    """A bar that names the stage at work; use it as a context manager."""

    def __init__(self, count: int) -> None:
        self._bar = tqdm(total=count, unit="stage", leave=False)
        self._entered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def enter(self, name: str) -> None:
        """Begin the stage ``name``, which ends the one before."""
        if self._entered:
            self._bar.update()
        self._entered = True
        self._bar.set_description(name)

    @contextmanager
    def counting(self, count: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Show a second bar for ``count`` things; call what this yields with how many more are done."""
        with tqdm(total=count, unit=unit, leave=False) as bar:

            def advance(done: int) -> None:
                bar.update(done)

            yield advance
