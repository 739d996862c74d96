"""Who is refused for its deadline: what cannot end in time, what would wait too long, what has waited too long."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from service.engine.cost import CostModel
from service.engine.limits import EngineLimits, Room
from service.engine.observer import SilentObserver
from service.engine.options import DecodingOptions, Priority
from service.engine.scheduler import Scheduler
from service.engine.sequence import Sequence
from service.errors import DeadlineError
from tests.doubles.clock import ManualClock

STEP_SECONDS = 0.1
ROWS = 4
TOKENS = 10
"""Source tokens, and steps, of every sentence here: it runs for a second."""


@pytest.fixture
def clock() -> ManualClock:
    """Moved by hand."""
    return ManualClock()


@pytest.fixture
def scheduler(clock: ManualClock) -> Scheduler:
    """One of four rows, which has learned that a step takes a tenth of a second and a sentence ten steps."""
    made = Scheduler(EngineLimits(), row_slots=ROWS, observer=SilentObserver(), clock=clock)
    made.learn([(TOKENS, TOKENS)], encode_seconds=0.0, decode_seconds=STEP_SECONDS)
    return made


def sentence(
    clock: ManualClock,
    seconds: float | None,
    *,
    follows: bool = False,
    priority: Priority = Priority.INTERACTIVE,
) -> Sequence:
    """A sentence that must be answered within `seconds`."""
    return Sequence(
        source_ids=np.zeros(TOKENS, np.int32),
        options=DecodingOptions(),
        max_output_tokens=100,
        priority=priority,
        deadline=None if seconds is None else clock() + seconds,
        seed=0,
        submitted=clock(),
        follows=follows,
    )


def accepted(scheduler: Scheduler, clock: ManualClock, seconds: float, *, follows: bool = False) -> int:
    """How many sentences in a row the scheduler takes in before it refuses one."""
    for count in itertools.count():
        try:
            scheduler.add(sentence(clock, seconds, follows=follows))
        except DeadlineError:
            return count
    raise AssertionError("a queue without end: this is a bug")


def test_a_sentence_that_cannot_end_in_time_is_refused_at_once(scheduler: Scheduler, clock: ManualClock) -> None:
    """Even by an idle engine; one that just can is taken in."""
    with pytest.raises(DeadlineError):
        scheduler.add(sentence(clock, 0.9))
    scheduler.add(sentence(clock, 1.1))


def test_the_queue_is_short_for_its_deadlines(scheduler: Scheduler, clock: ManualClock) -> None:
    """Of eight seconds two may be waited: eight sentences on four rows, so that long sentences are not crowded out."""
    assert accepted(scheduler, clock, 8.0) == 9


def test_a_calls_own_sentences_may_wait_for_each_other(scheduler: Scheduler, clock: ManualClock) -> None:
    """A long document is accepted whole as long as its last sentence ends in time."""
    assert accepted(scheduler, clock, 8.0, follows=True) == 29


def test_without_deadlines_only_the_queues_size_counts(scheduler: Scheduler, clock: ManualClock) -> None:
    """Bulk work waits as long as it has to."""
    for _ in range(1000):
        scheduler.add(sentence(clock, None))
    assert len(scheduler) == 1000


def test_bulk_work_that_waits_holds_no_call_back(scheduler: Scheduler, clock: ManualClock) -> None:
    """A call is let in before it, and of eight seconds' two it gives way for a fifth: to seven sentences, not nine."""
    for _ in range(1000):
        scheduler.add(sentence(clock, None, priority=Priority.BULK))
    assert accepted(scheduler, clock, 8.0) == 7


def test_what_has_waited_too_long_is_not_begun(scheduler: Scheduler, clock: ManualClock) -> None:
    """It leaves as soon as it cannot end in time any more, and what still can stays."""
    scheduler.add(sentence(clock, 4.0))
    scheduler.add(sentence(clock, 6.0))
    clock.advance(2.9)
    scheduler.learn([], encode_seconds=0.0, decode_seconds=STEP_SECONDS)
    assert scheduler.expire() == []
    clock.advance(0.2)
    (late,) = scheduler.expire()
    assert late.deadline is not None
    assert late.deadline > clock()
    room = Room(rows=ROWS, bulk_rows=0, beside_bulk_rows=ROWS, sentences=ROWS, encode_tokens=1000)
    assert len(scheduler.schedule(room)) == 1


def test_what_was_learned_meanwhile_counts(scheduler: Scheduler, clock: ManualClock) -> None:
    """A sentence that has become cheaper than it was when it came is not given up too early."""
    scheduler.add(sentence(clock, 4.0))
    for _ in range(1000):
        scheduler.learn([], encode_seconds=0.0, decode_seconds=STEP_SECONDS / 10)
    clock.advance(3.5)
    assert scheduler.expire() == []
    clock.advance(0.45)
    assert len(scheduler.expire()) == 1


def test_an_idle_engine_does_not_refuse_for_ever_after_a_hiccup(scheduler: Scheduler, clock: ManualClock) -> None:
    """Steps that took long once, as on a machine that was busy, are forgotten while nothing runs."""
    for _ in range(20):
        scheduler.learn([], encode_seconds=0.0, decode_seconds=100 * STEP_SECONDS)
    with pytest.raises(DeadlineError):
        scheduler.add(sentence(clock, 4.0))
    clock.advance(60.0)
    scheduler.add(sentence(clock, 4.0))
    assert scheduler.expire() == []


def test_the_first_step_counts_for_little_soon() -> None:
    """It pays for what is done once: after fifty turns it is a fiftieth of what is expected."""
    cost = CostModel()
    cost.saw_step(encode_seconds=0.0, decode_seconds=5.0)
    for _ in range(49):
        cost.saw_step(encode_seconds=0.0, decode_seconds=0.1)
    assert cost.step_seconds == pytest.approx(0.1 + 4.9 / 50, rel=0.4)


def test_caution_grows_with_what_was_not_expected() -> None:
    """Equal sentences that take equally long need none; those that differ by half need more."""
    sure, unsure = CostModel(), CostModel()
    for number in range(400):
        for cost, steps in ((sure, 10), (unsure, 5 if number % 2 else 15)):
            cost.saw_step(encode_seconds=0.0, decode_seconds=0.1)
            cost.saw_sequence(source_tokens=10, steps=steps)
    assert sure.run_seconds(10, 100, caution=1.0) == pytest.approx(1.0)
    assert unsure.run_seconds(10, 100) == pytest.approx(1.0, rel=0.1)
    assert unsure.run_seconds(10, 100, caution=1.0) == pytest.approx(1.5, rel=0.1)
    assert unsure.run_seconds(10, 12, caution=1.0) == pytest.approx(1.2, rel=0.01)


def test_deadlines_of_what_has_left_are_forgotten(scheduler: Scheduler, clock: ManualClock) -> None:
    """A corpus of days leaves nothing behind in memory; what waits keeps its deadline."""
    waiting = sentence(clock, 60.0, priority=Priority.BULK)
    scheduler.add(waiting)
    for _ in range(5_000):
        passing = sentence(clock, 86_400.0, priority=Priority.BULK)
        scheduler.add(passing)
        scheduler.abort(passing)
    assert len(scheduler._latest_starts) < 1_500
    clock.advance(60.0)
    assert scheduler.expire() == [waiting]


def test_a_sentence_without_a_deadline_takes_over_nobodys(scheduler: Scheduler, clock: ManualClock) -> None:
    """One that has left may have had the same id."""
    timeless = sentence(clock, None)
    scheduler.add(timeless)
    scheduler._latest_starts.append((clock() + 1.0, id(timeless)))
    clock.advance(2.0)
    assert scheduler.expire() == []
    assert scheduler._latest_starts == []
    assert len(scheduler) == 1
