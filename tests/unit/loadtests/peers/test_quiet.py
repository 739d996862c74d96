"""A server that still computes for calls which were given up is waited for."""

from __future__ import annotations

import pytest

from loadtests.peers import quiet
from loadtests.peers.quiet import MOST_LOOKS, until_quiet


def readings(monkeypatch: pytest.MonkeyPatch, steps: list[float]) -> list[float]:
    """Let the processor time of process 1 grow by these steps, by the last one for ever; returns what was read."""
    read: list[float] = []

    def seconds(process_id: int) -> float:
        grown = 0.0 if not read else steps[min(len(read), len(steps)) - 1]
        read.append((read[-1] if read else 5.0) + grown)
        return read[-1]

    monkeypatch.setattr(quiet, "process_cpu_seconds", seconds)
    return read


async def test_it_returns_when_the_servers_only_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three looks at work, and one at hardly any."""
    read = readings(monkeypatch, [0.01, 0.02, 0.01, 0.0001])
    assert await until_quiet([1], look_seconds=0.002)
    assert len(read) == 5


async def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that somebody is at work."""
    read = readings(monkeypatch, [1.0])
    assert not await until_quiet([1], look_seconds=0.0001)
    assert len(read) == MOST_LOOKS + 1
