"""What comes out of the engine, in any company, is what a plain search gives for each sentence alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine import DecodingOptions, Engine, EngineLimits, Priority
from service.engine.engine import Ticket
from tests.doubles import fake_runner, reference_search
from tests.doubles.clock import ManualClock
from tests.doubles.fake_runner import EOS, PAD, START, FakeRunner, log_probs_after

Source = tuple[int, ...]
sources = st.lists(st.integers(2, 39), min_size=1, max_size=12).map(tuple)


def expected(source: Source, options: DecodingOptions) -> list[tuple[int, ...]]:
    """The reference's hypotheses, best first."""
    limit = options.max_output_tokens or fake_runner.limits().max_output_tokens

    def predict(history: Sequence[int]) -> npt.NDArray[np.float32]:
        return log_probs_after(source, history)

    if options.beam_size == 1:
        return [tuple(reference_search.greedy(predict, start=START, eos=EOS, pad=PAD, limit=limit))]
    found = reference_search.beam(
        predict,
        start=START,
        eos=EOS,
        pad=PAD,
        limit=limit,
        size=options.beam_size,
        length_penalty=options.length_penalty,
    )
    return [tuple(ids) for _, ids in found[: options.num_hypotheses]]


def answer(ticket: Ticket) -> list[tuple[int, ...]]:
    """The engine's hypotheses, best first."""
    return [hypothesis.ids for hypothesis in ticket.future.result(0).hypotheses]


@st.composite
def requests(draw: st.DrawFn) -> tuple[Source, DecodingOptions, int, Priority]:
    """A source, its options, the turn in which it arrives, and its class."""
    beam_size = draw(st.sampled_from([1, 1, 2, 3, 4, 5, 8]))
    options = DecodingOptions(
        beam_size=beam_size,
        num_hypotheses=draw(st.integers(1, beam_size)),
        length_penalty=draw(st.sampled_from([0.0, 0.6, 1.0])),
        max_output_tokens=draw(st.sampled_from([None, 1, 2, 7])),
    )
    return draw(sources), options, draw(st.integers(0, 12)), draw(st.sampled_from(Priority))


@settings(max_examples=300, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=10), st.sets(st.integers(0, 9)), st.integers(8, 20))
def test_every_schedule_gives_the_reference_answers(
    arrivals: list[tuple[Source, DecodingOptions, int, Priority]], cancelled: set[int], row_slots: int
) -> None:
    """Arrivals, options, cancellations and slots are random; each answer equals the sentence's own, nothing leaks."""
    runner = FakeRunner(fake_runner.limits(row_slots=row_slots))
    engine = Engine([runner], limits=EngineLimits(), clock=ManualClock())
    tickets: dict[int, Ticket] = {}
    turn = 0
    while len(tickets) < len(arrivals) or engine.waiting or engine.running:
        for index, (source, options, when, priority) in enumerate(arrivals):
            if when == turn:
                tickets[index] = engine.submit(source, options, priority=priority)
            if index in cancelled and index in tickets and turn == when + 3:
                tickets[index].cancel()
        engine.step()
        turn += 1
    for index, ticket in tickets.items():
        assert ticket.future.done()
        if index in cancelled and ticket.future.exception(0) is not None:
            continue
        source, options, _, _ = arrivals[index]
        assert answer(ticket) == expected(source, options)
    assert runner.open_slots == set()


def test_a_beam_copies_only_what_its_hypotheses_do_not_share() -> None:
    """Lanes of one sentence share a prefix; whole rows are copied far less often than the beam reorders."""
    runner = FakeRunner(fake_runner.limits(row_slots=8))
    engine = Engine([runner], clock=ManualClock())
    ticket = engine.submit((3, 4, 5, 6), DecodingOptions(beam_size=4))
    while engine.step():
        pass
    steps = ticket.future.result(0).timings.steps
    assert runner.copied_positions < steps * steps * 4 / 2


@pytest.mark.parametrize("beam_size", [1, 4])
def test_alignments_follow_the_hypothesis_through_every_reordering(beam_size: int) -> None:
    """The alignment's rows belong to the tokens of the hypothesis they come with, EOS last, and sum to one."""
    runner = FakeRunner()
    engine = Engine([runner], clock=ManualClock())
    source = (5, 6, 7)
    options = DecodingOptions(beam_size=beam_size, num_hypotheses=beam_size, return_alignments=True)
    ticket = engine.submit(source, options)
    while engine.step():
        pass
    for hypothesis in ticket.future.result(0).hypotheses:
        fed = [START, *hypothesis.ids]
        sums = [sum(fed[: step + 1]) % 7 for step in range(len(fed))]
        assert hypothesis.alignment is not None
        assert hypothesis.alignment.shape == (len(hypothesis.ids) + 1, len(source))
        np.testing.assert_allclose(hypothesis.alignment.sum(axis=1), 1.0, rtol=1e-6)
        weights = np.array([1.0 + 4 * total + 6 for total in sums])
        np.testing.assert_allclose(hypothesis.alignment[:, 0], weights / (weights + len(source) - 1), rtol=1e-5)


def test_token_scores_add_up_to_the_log_probability() -> None:
    """Scores of the tokens, EOS included, sum to what the hypothesis claims, greedy and beam."""
    engine = Engine([FakeRunner()], clock=ManualClock())
    tickets = [engine.submit((9, 8, 7), DecodingOptions(beam_size=size, return_token_scores=True)) for size in (1, 4)]
    while engine.step():
        pass
    for ticket in tickets:
        best = ticket.future.result(0).hypotheses[0]
        assert best.token_scores is not None
        assert len(best.token_scores) == len(best.ids) + 1
        assert sum(best.token_scores) == pytest.approx(best.log_prob, rel=1e-5)
        assert best.score == pytest.approx(best.log_prob / (len(best.ids) + 1), rel=1e-6)
