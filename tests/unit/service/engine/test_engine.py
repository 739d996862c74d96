"""Sequences join and leave between steps; whatever happens to one, the others go on and each is answered once."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from service.engine import Batch, DecodingOptions, Engine, EngineLimits, FinishReason
from service.errors import CancelledError, DeadlineError, EngineError, UnavailableError
from tests.doubles import fake_runner
from tests.doubles.clock import ManualClock
from tests.doubles.fake_runner import FakeRunner
from tests.doubles.scripted_engine import GREEDY, LONG, OTHER, SHORT, Recorder, ScriptedRunner, ids_of, run


def test_a_sequence_joins_late_and_leaves_before_its_neighbours() -> None:
    """It comes when its neighbours are past step 20 and is answered while they still run."""
    engine = Engine([ScriptedRunner()], clock=ManualClock())
    neighbours = [engine.submit((39, 3), GREEDY), engine.submit((39, 4), GREEDY)]
    for _ in range(22):
        engine.step()
    late = engine.submit((4, 5), GREEDY)
    for _ in range(4):
        engine.step()
    assert late.future.done()
    assert len(ids_of(late)) == 3
    assert not any(neighbour.future.done() for neighbour in neighbours)
    run(engine)
    assert [len(ids_of(neighbour)) for neighbour in neighbours] == [38, 38]
    assert late.future.result(0).timings.steps == 4


def test_a_step_runs_over_no_more_rows_than_there_are_hypotheses() -> None:
    """A row that ends leaves no hole: the step after it is one row shorter."""
    runner = ScriptedRunner()
    engine = Engine([runner], clock=ManualClock())
    for steps in (3, 5, 9):
        engine.submit((steps, 4), GREEDY)
    run(engine)
    assert runner.rows_seen == [3] * 3 + [2] * 2 + [1] * 4


def test_a_cancelled_member_leaves_within_one_step_and_harms_nobody() -> None:
    """Its slots are free after the next turn; its batch-mate's answer is the one it would have had alone."""
    alone = Engine([FakeRunner()], clock=ManualClock())
    reference = alone.submit(OTHER, GREEDY)
    run(alone)
    runner = FakeRunner()
    engine = Engine([runner], clock=ManualClock())
    victim = engine.submit(LONG, DecodingOptions(beam_size=4))
    mate = engine.submit(OTHER, GREEDY)
    engine.step()
    engine.step()
    victim.cancel()
    engine.step()
    assert isinstance(victim.future.exception(0), CancelledError)
    assert len(runner.open_slots) <= 1
    run(engine)
    assert ids_of(mate) == ids_of(reference)


def test_cancelling_what_waits_answers_at_once() -> None:
    """No step is needed to leave the queue."""
    engine = Engine([FakeRunner()], clock=ManualClock())
    ticket = engine.submit(SHORT, GREEDY)
    ticket.cancel()
    assert isinstance(ticket.future.exception(0), CancelledError)
    assert engine.waiting == 0
    ticket.cancel()


def test_deadlines_end_waiting_and_running_work_within_one_step() -> None:
    """Both get DeadlineError; a neighbour without a deadline goes on."""
    clock = ManualClock()
    engine = Engine([ScriptedRunner(row_slots=1)], clock=clock)
    running = engine.submit((39, 3), GREEDY, deadline=clock() + 5)
    engine.step()
    waiting = engine.submit((4, 3), GREEDY, deadline=clock() + 5)
    patient = engine.submit((4, 4), GREEDY)
    clock.advance(6)
    engine.step()
    assert isinstance(running.future.exception(0), DeadlineError)
    assert isinstance(waiting.future.exception(0), DeadlineError)
    run(engine)
    assert len(ids_of(patient)) == 3


def test_a_failed_step_fails_its_rows_once_and_the_engine_goes_on() -> None:
    """Those in the step get EngineError without internals; the next sequence is served, no slot is lost."""
    runner = ScriptedRunner(row_slots=4)
    runner.fail_steps = {2}
    engine = Engine([runner], clock=ManualClock())
    doomed = [engine.submit((9, token), GREEDY) for token in (3, 4)]
    engine.step()
    engine.step()
    for ticket in doomed:
        error = ticket.future.exception(0)
        assert isinstance(error, EngineError)
        assert "fell over" not in str(error)
    assert runner.open_slots == set()
    after = [engine.submit((3, token), GREEDY) for token in (3, 4, 5, 6)]
    run(engine)
    assert [len(ids_of(ticket)) for ticket in after] == [2] * 4


def test_a_failed_encode_fails_the_newcomers_only() -> None:
    """Who already runs is not touched by a newcomer that cannot be encoded."""
    runner = ScriptedRunner()
    engine = Engine([runner], clock=ManualClock())
    running = engine.submit((9, 3), GREEDY)
    engine.step()
    runner.fail_encode = True
    doomed = engine.submit((3, 3), GREEDY)
    engine.step()
    runner.fail_encode = False
    assert isinstance(doomed.future.exception(0), EngineError)
    run(engine)
    assert len(ids_of(running)) == 8


def test_numbers_that_are_not_numbers_end_their_row_only() -> None:
    """NaN logits of one sentence give it ERROR; the answer of the other is untouched."""
    runner = FakeRunner()
    runner.broken_sources = {LONG}
    recorder = Recorder()
    engine = Engine([runner], clock=ManualClock(), observer=recorder)
    broken = engine.submit(LONG, DecodingOptions(beam_size=3))
    fine = engine.submit(OTHER, DecodingOptions(beam_size=3))
    run(engine)
    assert isinstance(broken.future.exception(0), EngineError)
    assert fine.future.result(0).hypotheses
    assert recorder.reasons.count(FinishReason.ERROR) == 1


def test_tokens_are_streamed_as_they_come() -> None:
    """Each call gets the ids so far, without EOS; the last equals the answer."""
    engine = Engine([FakeRunner()], clock=ManualClock())
    heard: list[tuple[int, ...]] = []
    ticket = engine.submit(LONG, GREEDY, on_token=heard.append)
    run(engine)
    assert heard[-1] == ids_of(ticket)
    assert all(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(heard))


def test_a_callback_that_fails_costs_only_its_own_sequence() -> None:
    """A caller whose stream is gone is dropped; its neighbour is answered."""
    engine = Engine([FakeRunner()], clock=ManualClock())

    def gone(_: tuple[int, ...]) -> None:
        raise RuntimeError("nobody listens")

    lost = engine.submit(LONG, DecodingOptions(min_output_tokens=5), on_token=gone)
    mate = engine.submit(OTHER, GREEDY)
    run(engine)
    assert isinstance(lost.future.exception(0), CancelledError)
    assert ids_of(mate) is not None


def test_draining_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    """Threads end, every accepted sequence has its translation, later ones get UnavailableError."""
    engine = Engine([FakeRunner(), FakeRunner()])
    tickets = [engine.submit((token, 5), GREEDY) for token in range(2, 30)]
    engine.start()
    assert engine.shutdown(grace_seconds=30)
    assert all(ticket.future.result(0).hypotheses for ticket in tickets)
    with pytest.raises(UnavailableError):
        engine.submit(SHORT, GREEDY)


def test_a_hung_step_is_noticed_and_shutdown_still_answers_everybody() -> None:
    """Stalled time grows while a step hangs; when grace ends, running and waiting get UnavailableError."""
    release, entered = threading.Event(), threading.Event()

    def hang(_: Batch) -> None:
        entered.set()
        release.wait(30)

    clock = ManualClock()
    engine = Engine([FakeRunner(fake_runner.limits(row_slots=1), on_step=hang)], clock=clock)
    stuck, waiting = engine.submit(LONG, GREEDY), engine.submit(SHORT, GREEDY)
    engine.start()
    assert entered.wait(10)
    clock.advance(7)
    assert engine.stalled_seconds() >= 7
    assert not engine.shutdown(grace_seconds=0)
    assert isinstance(stuck.future.exception(0), UnavailableError)
    assert isinstance(waiting.future.exception(0), UnavailableError)
    release.set()


def test_an_idle_engine_is_not_stalled() -> None:
    """Time without work is no stall, however long."""
    clock = ManualClock()
    engine = Engine([FakeRunner()], clock=clock)
    engine.step()
    clock.advance(1000)
    assert engine.stalled_seconds() == 0


def test_many_threads_submit_and_each_gets_its_own_answer() -> None:
    """Two workers, eight callers: no answer is lost, swapped or given twice."""
    engine = Engine([FakeRunner(), FakeRunner()], limits=EngineLimits(max_waiting_sequences=10_000))
    engine.start()
    answers: dict[tuple[int, ...], tuple[int, ...]] = {}

    def call(first: int) -> None:
        for second in range(2, 22):
            ticket = engine.submit((first, second), GREEDY)
            answers[first, second] = ticket.future.result(60).hypotheses[0].ids

    callers = [threading.Thread(target=call, args=(first,)) for first in range(2, 10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    engine.shutdown(grace_seconds=10)
    alone = Engine([FakeRunner()], clock=ManualClock())
    tickets = {source: alone.submit(source, GREEDY) for source in answers}
    run(alone)
    assert answers == {source: ids_of(ticket) for source, ticket in tickets.items()}


def test_a_step_record_counts_what_happened() -> None:
    """Rows, tokens and padding of a turn are those of its batch."""
    recorder = Recorder()
    engine = Engine([FakeRunner()], clock=ManualClock(), observer=recorder)
    engine.submit((3, 4, 5, 6), GREEDY)
    engine.submit((3, 4), GREEDY)
    engine.step()
    record = recorder.records[0]
    assert (record.rows, record.new_tokens, record.encoded_tokens, record.padded_tokens) == (2, 2, 6, 8)
    assert np.isfinite(record.decode_seconds)


def test_turns_that_fail_are_counted_and_teach_nothing() -> None:
    """A runner that only fails would seem infinitely fast; a good turn ends the count."""
    clock, recorder = ManualClock(), Recorder()
    runner = ScriptedRunner()
    runner.fail_steps = set(range(6, 106))
    engine = Engine([runner], clock=clock, observer=recorder)

    def turn(source: tuple[int, ...]) -> None:
        engine.submit(source, GREEDY)
        engine.step()

    for _ in range(5):
        turn((1, 3))
    known, told = engine.step_seconds(), len(recorder.records)
    engine._scheduler.learn([], encode_seconds=0.0, decode_seconds=0.1)
    taught = engine.step_seconds()
    assert taught > known
    for _ in range(50):
        turn((1, 3))
    assert engine.failures() == 50
    assert engine.step_seconds() == taught
    assert len(recorder.records) == told
    runner.fail_steps = set()
    turn((1, 3))
    assert engine.failures() == 0


def test_an_encoder_that_fails_is_counted_too() -> None:
    """Whatever part of the runner it is."""
    runner = ScriptedRunner()
    runner.fail_encode = True
    engine = Engine([runner], clock=ManualClock())
    for count in (1, 2):
        engine.submit((3, 3), GREEDY)
        engine.step()
        assert engine.failures() == count
