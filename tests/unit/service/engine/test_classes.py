"""Interactive callers hardly notice bulk work, on a simulated machine whose steps cost what real ones cost."""

from __future__ import annotations

import random

import numpy as np

from service.engine import Batch, DecodingOptions, Engine, EngineLimits, Priority
from service.engine.engine import Ticket
from tests.doubles import fake_runner
from tests.doubles.clock import ManualClock
from tests.doubles.fake_runner import FakeRunner

STEP_SECONDS, ROW_SECONDS, TOKEN_SECONDS = 2e-3, 0.35e-3, 0.12e-3
"""A decode step, each further row of it, and a padded token of the encoder: the proportions of an int8 base model."""


class Machine:
    """An engine on a clock that only its own work and the waiting for arrivals move."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        runner = FakeRunner(
            fake_runner.limits(row_slots=32, max_source_tokens=40, max_output_tokens=48),
            on_step=self._step,
            on_encode=lambda tokens: self.clock.advance(tokens * TOKEN_SECONDS),
        )
        limits = EngineLimits(max_waiting_sequences=100_000, max_waiting_tokens=10**7, reserved_rows=4)
        self.engine = Engine([runner], limits=limits, clock=self.clock)

    def _step(self, batch: Batch) -> None:
        self.clock.advance(STEP_SECONDS + ROW_SECONDS * len(batch.last_tokens))


def latencies(*, bulk: bool, calls: int = 250) -> tuple[list[float], int]:
    """Seconds of each of `calls` interactive calls, one after another with pauses; and bulk sentences done."""
    machine, numbers = Machine(), random.Random(7)
    bulk_done: list[Ticket] = []
    taken: list[float] = []
    for _ in range(calls):
        pause_ends = machine.clock() + numbers.expovariate(1 / 0.03)
        while machine.clock() < pause_ends:
            top_up(machine, bulk_done, numbers, wanted=40 if bulk else 0)
            if not machine.engine.step():
                machine.clock.advance(1e-3)
        source = [numbers.randint(2, 39) for _ in range(numbers.randint(2, 38))]
        began = machine.clock()
        ticket = machine.engine.submit(source, DecodingOptions(min_output_tokens=len(source)))
        while not ticket.future.done():
            top_up(machine, bulk_done, numbers, wanted=40 if bulk else 0)
            machine.engine.step()
        taken.append(machine.clock() - began)
    return taken, sum(each.future.done() for each in bulk_done)


def top_up(machine: Machine, tickets: list[Ticket], numbers: random.Random, *, wanted: int) -> None:
    """Keep `wanted` bulk sentences waiting: more than the machine can take."""
    while machine.engine.waiting < wanted:
        source = [numbers.randint(2, 39) for _ in range(numbers.randint(10, 38))]
        options = DecodingOptions(min_output_tokens=len(source))
        tickets.append(machine.engine.submit(source, options, priority=Priority.BULK))


def test_interactive_p99_under_saturating_bulk_is_within_twice_its_idle_p99() -> None:
    """And the bulk work goes on all the while."""
    idle, _ = latencies(bulk=False)
    loaded, bulk_done = latencies(bulk=True)
    assert np.percentile(loaded, 99) <= 2.0 * np.percentile(idle, 99)
    assert bulk_done > len(loaded)
