"""A worker's steps say whether it is the only one with work, and a few rows gather on one worker."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from service.engine import Batch, DecodingOptions, Engine, EngineLimits
from tests.doubles.clock import ManualClock
from tests.doubles.fake_runner import FakeRunner, limits

ENDLESS = DecodingOptions(min_output_tokens=20)


def test_a_step_knows_whether_other_workers_have_sequences() -> None:
    """From the step after another one has begun until that one has none left."""
    seen: list[list[bool]] = [[], []]

    def note(steps: list[bool], batch: Batch) -> None:
        steps.append(batch.alone)

    engine = Engine([FakeRunner(limits(row_slots=1), on_step=partial(note, steps)) for steps in seen])
    engine.submit([5, 6, 7, 0], ENDLESS)
    engine.step()
    engine.step()
    assert seen == [[True, True], []]
    engine.submit([8, 9, 0], DecodingOptions(max_output_tokens=5))
    while engine.step():
        pass
    together = len(seen[1])
    steps = len(seen[0])
    assert 0 < together < steps - 4
    assert seen[1] == [False] * together
    # The first worker's turn comes before the second's, so it learns of what that does one turn later.
    assert seen[0] == [True] * 3 + [False] * together + [True] * (steps - 3 - together)


def gathering_engine(*, static_batching: bool = False) -> tuple[Engine, ManualClock]:
    """Two workers of eight rows, of which one takes up to three alone."""
    clock = ManualClock()
    runners = [FakeRunner(limits(lone_rows=3)) for _ in range(2)]
    return Engine(runners, limits=EngineLimits(static_batching=static_batching), clock=clock), clock


def rows_of(engine: Engine) -> list[int]:
    """Sequences in each worker's batch."""
    return [worker.running for worker in engine._workers]


@pytest.mark.parametrize("first", [0, 1])
def test_a_few_rows_gather_on_the_worker_that_has_the_most(first: int) -> None:
    """Whichever began, newcomers join it, though the other is asked before it, until there are more than three."""
    engine, _ = gathering_engine()
    lone, other = engine._workers[first], engine._workers[1 - first]
    engine.submit([5, 0], ENDLESS)
    assert lone.step()
    for running in (2, 3):
        engine.submit([5, running, 0], ENDLESS)
        assert not other.step()
        assert other.leaves_newcomers
        assert lone.step()
        assert lone.running == running
    engine.submit([9, 0], ENDLESS)
    assert other.step()
    assert not other.leaves_newcomers
    assert (lone.running, other.running) == (3, 1)


def test_beams_count_as_the_rows_that_they_will_take() -> None:
    """One row runs, and four beams would make it five: the other worker takes them."""
    engine, _ = gathering_engine()
    engine.submit([5, 0], ENDLESS)
    engine._workers[0].step()
    engine.submit([6, 0], DecodingOptions(beam_size=4))
    assert engine._workers[1].step()
    assert rows_of(engine) == [1, 1]


def test_workers_that_both_run_become_one_again() -> None:
    """When few are left, newcomers join the fuller one, and the other runs dry."""
    engine, _ = gathering_engine()
    first, *tickets = [engine.submit([token, 0], ENDLESS) for token in range(2, 5)]
    engine._workers[0].step()
    engine.submit([5, 0], DecodingOptions(max_output_tokens=4))
    engine._workers[1].step()
    assert rows_of(engine) == [3, 1]
    for ticket in tickets:
        ticket.cancel()
    engine._workers[0].step()
    engine.submit([7, 0], ENDLESS)
    assert engine._workers[1].step()
    assert rows_of(engine) == [1, 1]
    while engine._workers[1].running:
        engine.step()
    assert rows_of(engine) == [2, 0]
    assert not first.future.done()


def test_a_newcomer_that_is_left_too_long_is_anybodys() -> None:
    """The worker it was left to hangs in its step: the other takes it, late."""
    engine, clock = gathering_engine()
    engine.submit([5, 0], ENDLESS)
    engine._workers[0].step()
    engine.submit([6, 0], ENDLESS)
    assert not engine._workers[1].step()
    clock.advance(0.06)
    assert engine._workers[1].step()
    assert rows_of(engine) == [1, 1]


def test_static_batches_do_not_gather() -> None:
    """Their worker takes nobody before it is done, so that newcomers would wait beside one that is idle."""
    engine, _ = gathering_engine(static_batching=True)
    engine.submit([5, 0], ENDLESS)
    engine._workers[0].step()
    engine.submit([6, 0], ENDLESS)
    assert engine._workers[1].step()


def test_a_worker_that_leaves_newcomers_sleeps_until_the_next() -> None:
    """It must not spin on the cores that the other worker computes with."""
    engine, _ = gathering_engine()
    engine.submit([5, 0], ENDLESS)
    scheduler = engine._scheduler
    scheduler.wait_for_work(60.0)
    sleeper = threading.Thread(target=partial(scheduler.wait_for_work, 60.0, newcomers_only=True))
    sleeper.start()
    sleeper.join(0.1)
    assert sleeper.is_alive()
    engine.submit([6, 0], ENDLESS)
    sleeper.join(30.0)
    assert not sleeper.is_alive()
