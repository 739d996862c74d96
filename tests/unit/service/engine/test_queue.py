"""Who waits, who is turned away, and whose turn it is."""

from __future__ import annotations

import pytest

from service.engine import Batch, DecodingOptions, Engine, EngineLimits, Priority, RefusalReason
from service.errors import DeadlineError, OverloadedError
from tests.doubles.clock import ManualClock
from tests.doubles.fake_runner import FakeRunner
from tests.doubles.scripted_engine import GREEDY, LONG, SHORT, Recorder, ScriptedRunner, run


def test_a_full_queue_refuses_at_once_with_a_hint() -> None:
    """Refusal is an exception from submit, names when to come back, and is counted by reason."""
    recorder = Recorder()
    limits = EngineLimits(max_waiting_sequences=2)
    engine = Engine([FakeRunner()], limits=limits, clock=ManualClock(), observer=recorder)
    for _ in range(2):
        engine.submit(SHORT, GREEDY)
    with pytest.raises(OverloadedError) as caught:
        engine.submit(SHORT, GREEDY)
    assert caught.value.retry_after_seconds > 0
    assert recorder.refusals == [RefusalReason.QUEUE_FULL]


def test_the_queue_is_bounded_in_tokens_but_lets_one_in() -> None:
    """A long sentence is not refused for ever just because it alone exceeds the bound."""
    engine = Engine([FakeRunner()], limits=EngineLimits(max_waiting_tokens=3), clock=ManualClock())
    engine.submit(LONG, GREEDY)
    with pytest.raises(OverloadedError):
        engine.submit(SHORT, GREEDY)


def test_work_that_cannot_finish_in_time_is_refused_once_the_engine_knows() -> None:
    """Before it has seen a sentence it refuses nothing; afterwards it predicts from source length."""
    clock = ManualClock()

    def tick(_: Batch) -> None:
        clock.advance(0.5)

    recorder = Recorder()
    engine = Engine([FakeRunner(on_step=tick)], clock=clock, observer=recorder)
    hopeful = engine.submit(LONG, GREEDY, deadline=clock() + 0.001)
    engine.cancel(hopeful._sequence)
    engine._scheduler.learn([(4, 10)], encode_seconds=0.0, decode_seconds=0.5)
    with pytest.raises(DeadlineError):
        engine.submit(LONG, GREEDY, deadline=clock() + 1.0)
    engine.submit(LONG, GREEDY, deadline=clock() + 100.0)
    assert recorder.refusals == [RefusalReason.DEADLINE]


def test_a_wide_request_is_not_overtaken_for_ever() -> None:
    """A beam of 8 on 8 rows is admitted though single rows keep coming: at most `max_overtakes` pass it."""
    limits = EngineLimits(max_overtakes=3)
    engine = Engine([ScriptedRunner(row_slots=8)], limits=limits, clock=ManualClock())
    for token in range(6):
        engine.submit((6, token + 2), GREEDY)
    engine.step()
    wide = engine.submit((3, 2), DecodingOptions(beam_size=8))
    passed = 0
    for turn in range(40):
        late = engine.submit((6, 3 + turn % 30), GREEDY)
        engine.step()
        if wide._sequence.scheduled:
            break
        passed += bool(late._sequence.scheduled)
    assert wide._sequence.scheduled
    assert passed <= 3


def test_bulk_leaves_reserved_rows_to_interactive_work() -> None:
    """However much bulk waits, a newcomer of the interactive class starts in the next turn."""
    engine = Engine([ScriptedRunner(row_slots=4)], limits=EngineLimits(reserved_rows=1), clock=ManualClock())
    bulk = [engine.submit((30, token), GREEDY, priority=Priority.BULK) for token in range(2, 12)]
    engine.step()
    assert engine.running == 3
    urgent = engine.submit((5, 3), GREEDY)
    engine.step()
    assert engine.running == 4
    assert urgent._sequence.steps == 1
    run(engine)
    assert all(ticket.future.result(0) for ticket in bulk)


def test_both_classes_are_served_by_their_shares() -> None:
    """While both wait, interactive is admitted about four times as often as bulk, and bulk is not starved."""
    engine = Engine([ScriptedRunner(row_slots=1)], limits=EngineLimits(interactive_share=0.8), clock=ManualClock())
    order: list[Priority] = []
    for _ in range(20):
        for priority in Priority:
            ticket = engine.submit((2, 3), GREEDY, priority=priority)
            ticket.future.add_done_callback(lambda _, kind=priority: order.append(kind))  # type: ignore[misc]
    run(engine)
    first = order[:20]
    assert 3 <= first.count(Priority.BULK) <= 5


def test_rows_that_gather_for_bulk_work_are_not_the_reserved_ones() -> None:
    """While a wide bulk search waits for rows, interactive newcomers go on into theirs; in the end all are answered."""
    engine = Engine(
        [ScriptedRunner(row_slots=8)], limits=EngineLimits(reserved_rows=2, max_overtakes=0), clock=ManualClock()
    )
    bulk = [engine.submit((20, token), GREEDY, priority=Priority.BULK) for token in range(2, 6)]
    engine.step()
    wide = engine.submit((6, 7), DecodingOptions(beam_size=5), priority=Priority.BULK)
    urgent = [engine.submit((9, token), GREEDY) for token in range(2, 6)]
    engine.step()
    assert engine.running == 4 + 2
    assert wide._sequence.steps == 0
    run(engine)
    assert all(ticket.future.result(0).hypotheses for ticket in [*bulk, wide, *urgent])
