"""What a request may ask of decoding is done to the letter, or refused by its field."""

from __future__ import annotations

import itertools

import pytest

from service.engine import DecodingOptions, Engine, FinishReason
from service.errors import InvalidInputError
from tests.doubles import fake_runner
from tests.doubles.clock import ManualClock
from tests.doubles.fake_runner import EOS, PAD, FakeRunner
from tests.doubles.scripted_engine import GREEDY, LONG, OTHER, SHORT, ScriptedRunner, ids_of, run


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
