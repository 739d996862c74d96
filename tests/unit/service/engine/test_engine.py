"""Sequences join and leave between steps; whatever happens to one, the others go on and each is answered once."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from service.engine import (
    Batch,
    DecodingOptions,
    Engine,
    EngineLimits,
    FinishReason,
    Priority,
    RefusalReason,
    SilentObserver,
    StepOutput,
    StepRecord,
    Timings,
)
from service.engine.engine import Ticket
from service.errors import (
    CancelledError,
    DeadlineError,
    EngineError,
    InvalidInputError,
    OverloadedError,
    UnavailableError,
)
from tests.doubles import fake_runner
from tests.doubles.clock import ManualClock
from tests.doubles.fake_runner import EOS, PAD, FakeRunner

GREEDY = DecodingOptions()
LONG, SHORT, OTHER = (2, 2, 2, 17), (5, 6), (7, 8, 9)


class Recorder(SilentObserver):
    """Keeps what the engine reports."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.reasons: list[FinishReason] = []
        self.refusals: list[RefusalReason] = []

    def step(self, record: StepRecord) -> None:
        """Keep a turn."""
        self.records.append(record)

    def finished(self, reason: FinishReason, timings: Timings) -> None:
        """Keep why a sequence ended."""
        self.reasons.append(reason)

    def refused(self, reason: RefusalReason) -> None:
        """Keep why a sequence was refused."""
        self.refusals.append(reason)


class ScriptedRunner(FakeRunner):
    """Ends each sentence after as many steps as its first source token says; fails where a test wants it."""

    def __init__(self, *, row_slots: int = 8) -> None:
        super().__init__(fake_runner.limits(row_slots=row_slots, max_output_tokens=64))
        self.rows_seen: list[int] = []
        self.fail_encode = False
        self.fail_steps: set[int] = set()

    def encode(self, sources, slots, lanes) -> None:  # type: ignore[no-untyped-def]
        """Encode, or fail."""
        if self.fail_encode:
            raise RuntimeError("the encoder fell over")
        super().encode(sources, slots, lanes)

    def decode_step(self, batch: Batch) -> StepOutput:
        """Pieces until it is time for EOS."""
        self.rows_seen.append(len(batch.last_tokens))
        if len(self.rows_seen) in self.fail_steps:
            raise RuntimeError("the step fell over")
        output = super().decode_step(batch)
        for row, slot in enumerate(batch.sentence_slots.tolist()):
            ends = batch.past_lengths[row] + 1 >= self._sources[slot][0]
            output.top_ids[row, 0] = EOS if ends else 3
        return output


def run(engine: Engine) -> None:
    """Step until nothing is left to do."""
    while engine.step():
        pass


def ids_of(ticket: Ticket) -> tuple[int, ...]:
    """The best hypothesis."""
    return ticket.future.result(0).hypotheses[0].ids


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


def test_sampling_depends_on_its_seed_and_nothing_else() -> None:
    """The same seed gives the same answer alone and in company; another seed gives another."""
    options = [
        DecodingOptions(sampling=True, seed=seed, temperature=1.5, top_k=top_k, top_p=top_p)
        for seed, top_k, top_p in ((1, 0, 1.0), (1, 5, 0.9), (1, 0, 0.7), (2, 0, 1.0))
    ]
    alone = []
    for each in options:
        engine = Engine([FakeRunner()], clock=ManualClock())
        ticket = engine.submit(LONG, each)
        run(engine)
        alone.append(ids_of(ticket))
    engine = Engine([FakeRunner()], clock=ManualClock())
    engine.submit(OTHER, DecodingOptions(beam_size=2))
    together = [engine.submit(LONG, each) for each in options]
    run(engine)
    assert [ids_of(ticket) for ticket in together] == alone
    assert alone[0] != alone[3]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_forced_prefix_opens_every_hypothesis_and_scores_nothing(beam_size: int) -> None:
    """All hypotheses begin with it; its tokens have score 0."""
    engine = Engine([FakeRunner()], clock=ManualClock())
    options = DecodingOptions(
        beam_size=beam_size, num_hypotheses=beam_size, target_prefix=(11, 12, 13), return_token_scores=True
    )
    ticket = engine.submit(LONG, options)
    run(engine)
    for hypothesis in ticket.future.result(0).hypotheses:
        assert hypothesis.ids[:3] == (11, 12, 13)
        assert hypothesis.token_scores is not None
        assert hypothesis.token_scores[:3] == (0.0, 0.0, 0.0)
        assert len(hypothesis.token_scores) == len(hypothesis.ids) + 1


@pytest.mark.parametrize("beam_size", [1, 4])
def test_minimum_length_and_repeated_ngrams_are_kept(beam_size: int) -> None:
    """No hypothesis is shorter than asked, repeats a pair of tokens, or holds <pad>."""
    engine = Engine([FakeRunner()], clock=ManualClock())
    options = DecodingOptions(
        beam_size=beam_size, num_hypotheses=beam_size, min_output_tokens=15, no_repeat_ngram_size=2
    )
    tickets = [engine.submit((source, 3), options) for source in range(2, 30)]
    run(engine)
    for ticket in tickets:
        for hypothesis in ticket.future.result(0).hypotheses:
            assert len(hypothesis.ids) + 1 >= 15
            pairs = list(itertools.pairwise(hypothesis.ids))
            assert len(pairs) == len(set(pairs))
            assert PAD not in hypothesis.ids


def test_a_forced_end_says_so() -> None:
    """The output limit ends a hypothesis with LENGTH, never silently."""
    engine = Engine([ScriptedRunner()], clock=ManualClock())
    ticket = engine.submit((39, 3), DecodingOptions(max_output_tokens=5))
    run(engine)
    best = ticket.future.result(0).hypotheses[0]
    assert best.finish_reason is FinishReason.LENGTH
    assert len(best.ids) == 4


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


@pytest.mark.parametrize(
    ("source", "options", "field"),
    [
        ((), GREEDY, "source_ids"),
        ((3,) * 13, GREEDY, "source_ids"),
        ((3, 40), GREEDY, "source_ids"),
        ((3, -1), GREEDY, "source_ids"),
        ((3,), DecodingOptions(max_output_tokens=25), "max_output_tokens"),
        ((3,), DecodingOptions(min_output_tokens=25), "min_output_tokens"),
        ((3,), DecodingOptions(target_prefix=(EOS,)), "target_prefix"),
        ((3,), DecodingOptions(target_prefix=(41,)), "target_prefix"),
        ((3,), DecodingOptions(target_prefix=(4,) * 24), "target_prefix"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_field(
    source: tuple[int, ...], options: DecodingOptions, field: str
) -> None:
    """Nothing is cut or mended in silence."""
    engine = Engine([FakeRunner()], clock=ManualClock())
    with pytest.raises(InvalidInputError) as caught:
        engine.submit(source, options)
    assert caught.value.field == field


def test_a_beam_wider_than_the_worker_is_refused() -> None:
    """It could never be admitted."""
    engine = Engine([FakeRunner(fake_runner.limits(row_slots=3))], clock=ManualClock())
    with pytest.raises(InvalidInputError):
        engine.submit(SHORT, DecodingOptions(beam_size=4))


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
