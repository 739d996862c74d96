"""The sleeping runner keeps the engine's contract: lengths by source, times by rows, every search ends by itself."""

import numpy as np
import pytest

from loadtests.sleeping_server.runner import SleepingRunner
from loadtests.sleeping_server.step_times import Curve, StepTimes
from service.engine import DecodingOptions, DecodingResult, Engine, ModelLimits

WORDS = range(10, 300)
EOS, PAD = 0, 1
TIMES = StepTimes(step=Curve.of([(1, 0.01), (9, 0.05)]), encode=Curve.of([(10, 0.1), (20, 0.2)]))
LIMITS = ModelLimits(
    row_slots=16,
    sentence_slots=16,
    max_source_tokens=100,
    max_output_tokens=160,
    source_vocabulary_size=400,
    vocabulary_size=400,
    start_id=PAD,
    eos_id=EOS,
    pad_id=PAD,
    has_alignments=False,
)


def source_of(length: int, *, first: int = 5) -> list[int]:
    """A source of `length` tokens."""
    return [first, *range(6, 4 + length), EOS]


def translate(sources: list[list[int]], options: DecodingOptions, slept: list[float]) -> list[DecodingResult]:
    """Runs all `sources` through an engine over one sleeping runner that only notes how long it would sleep."""
    engine = Engine([SleepingRunner(LIMITS, WORDS, TIMES, sleep=slept.append)])
    tickets = [engine.submit(source, options) for source in sources]
    while engine.step():
        pass
    return [ticket.future.result(0) for ticket in tickets]


@pytest.mark.parametrize(
    "options",
    [
        DecodingOptions(),
        DecodingOptions(beam_size=4, num_hypotheses=4),
        DecodingOptions(sampling=True, top_k=5, seed=3),
        DecodingOptions(sampling=True, temperature=0.5, seed=3),
        DecodingOptions(no_repeat_ngram_size=2),
    ],
    ids=["greedy", "beam", "top-k", "sampling", "ngram-ban"],
)
def test_every_search_ends_by_itself_after_about_as_many_tokens_as_the_source(options: DecodingOptions) -> None:
    """Translations are words of the vocabulary, never cut off, 0.7 to 1.3 times as long as their sources."""
    for source, result in zip(
        sources := [source_of(n) for n in (4, 20, 60, 90)], translate(sources, options, []), strict=True
    ):
        best = result.hypotheses[0]
        assert best.finish_reason.name == "EOS"
        assert set(best.ids) <= set(WORDS)
        assert 0.7 * len(source) - 1 <= len(best.ids) + 1 <= 1.3 * len(source) + 1


def test_a_source_is_always_translated_alike_and_sources_differ() -> None:
    """The same text has the same answer in whatever company; other texts have other words and lengths."""
    alone = translate([source_of(40)], DecodingOptions(), [])[0].hypotheses[0].ids
    together = translate([source_of(40, first=first) for first in range(2, 18)], DecodingOptions(), [])
    assert together[3].hypotheses[0].ids == alone
    assert len({result.hypotheses[0].ids for result in together}) == 16
    assert len({len(result.hypotheses[0].ids) for result in together}) > 4


def test_a_turn_takes_what_the_curves_say() -> None:
    """Eight sentences are encoded as one padded batch; a step of eight rows takes its time, less the arithmetic."""
    slept: list[float] = []
    translate([source_of(5)] * 4, DecodingOptions(), slept)
    encode, *steps = slept
    assert encode == pytest.approx(0.2, abs=0.05)
    assert encode <= 0.2
    assert all(step <= 0.01 + 3 * 0.005 for step in steps)
    assert steps


def test_bans_are_obeyed() -> None:
    """A banned word is not offered as the best one."""
    plain = translate([source_of(30)], DecodingOptions(), [])[0].hypotheses[0]
    guarded = translate([source_of(30)], DecodingOptions(no_repeat_ngram_size=1), [])[0].hypotheses[0]
    assert len(set(guarded.ids)) == len(guarded.ids)
    assert len(guarded.ids) == len(plain.ids)
    late = translate([source_of(30)], DecodingOptions(min_output_tokens=60), [])[0].hypotheses[0]
    assert len(late.ids) + 1 == 60
    assert np.isfinite(late.log_prob)
