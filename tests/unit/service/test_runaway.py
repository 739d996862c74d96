"""Loops and outputs without an end are caught, and ordinary texts are not taken for either."""

from __future__ import annotations

import random

import pytest

from service.engine import DecodingOptions, FinishReason, Hypothesis
from service.translator import Fallback
from service.translator.runaway import find_runaway, firm_length, first_repeat, guarded_options, is_looping

LIMIT = 256


def ordinary(generator: random.Random, length: int) -> list[int]:
    """Token ids as common as words are: a few very often, most seldom."""
    return [min(int(generator.paretovariate(0.6)), 8000) for _ in range(length)]


@pytest.mark.parametrize("seed", range(20))
def test_seeded_loops_are_all_caught(seed: int) -> None:
    """Any period from one to twelve tokens, after any start, told often enough; what lies before it is kept."""
    generator = random.Random(seed)
    source = [generator.randrange(8000) for _ in range(30)]
    start = [generator.randrange(8000) for _ in range(generator.randrange(20))]
    period = [generator.randrange(8000) for _ in range(1 + seed % 12)]
    looped = start + period * (60 // len(period))
    assert is_looping(looped, source)
    kept = first_repeat(looped)
    assert kept is not None
    assert looped[:kept] == (start + period)[:kept]


def test_ordinary_sentences_are_no_loops() -> None:
    """Not one of a thousand, though frequent words come often."""
    generator = random.Random(1)
    for _ in range(1000):
        length = generator.randrange(1, 120)
        assert not is_looping(ordinary(generator, length), ordinary(generator, length))


def test_a_source_that_repeats_itself_may_be_translated_so() -> None:
    """A chorus stays a chorus."""
    assert not is_looping([1, 2, 3, 4, 5] * 8, [6, 7, 8, 9] * 8)
    assert is_looping([1, 2, 3, 4, 5] * 20, [6, 7, 8, 9] * 2)


@pytest.mark.parametrize("ids", [[], [1], [1, 1, 1, 1], [1, 2, 3, 4, 1, 2, 3, 5]])
def test_short_outputs_hold_no_repeat(ids: list[int]) -> None:
    """Four tokens must come again."""
    assert first_repeat(ids) is None
    assert not is_looping(ids, [])


def output(ids: list[int], mean: float, *, end: FinishReason = FinishReason.EOS, prefix_length: int = 0) -> Hypothesis:
    """A hypothesis whose chosen tokens have this log-probability each; its score says something else."""
    chosen = len(ids) - prefix_length + (end is FinishReason.EOS)
    return Hypothesis(ids=tuple(ids), score=-0.001, log_prob=mean * chosen, finish_reason=end)


def endless(generator: random.Random, seed: int, source_length: int) -> Hypothesis:
    """Counting up, a loop one token of which changes each round, what only the limit ends, or what the model doubts."""
    number = iter(range(100, 1000))
    far, cut_off = 3 * source_length + 21 + generator.randrange(20), LIMIT - 1
    if seed % 4 == 0:
        words = [generator.randrange(2000, 8000) for _ in range(generator.randrange(1, 4))]
        ids = [token for _ in range(far) for token in (*words, next(number))]
        return output(ids[:cut_off], -0.2, end=FinishReason.LENGTH)
    if seed % 4 == 1:
        period = [generator.randrange(2000, 8000) for _ in range(3 + seed % 3)]
        ids = [token for _ in range(far) for token in (*period, next(number))]
        return output(ids[:far], -0.1)
    varied = [generator.randrange(2000, 8000) for _ in range(cut_off)]
    if seed % 4 == 2:
        return output(varied, -0.3, end=FinishReason.LENGTH)
    return output(varied[: 2 * source_length + 17 + generator.randrange(20)], generator.uniform(-4.0, -1.3))


@pytest.mark.parametrize("seed", range(20))
def test_seeded_outputs_without_an_end_are_all_caught(seed: int) -> None:
    """None of them is a loop by its n-grams."""
    generator = random.Random(seed)
    source = ordinary(generator, generator.randrange(2, 70))
    best = endless(generator, seed, len(source))
    assert not is_looping(best.ids, source)
    assert find_runaway(best, source, 0) is Fallback.LENGTH


def test_ordinary_outputs_have_not_run_away() -> None:
    """Not one of a thousand, however unlikely its tokens: samples have low scores."""
    generator = random.Random(2)
    for _ in range(1000):
        source = ordinary(generator, generator.randrange(2, 120))
        ids = ordinary(generator, generator.randrange(int(1.5 * len(source)) + 12))
        end = generator.choice([FinishReason.EOS, FinishReason.LENGTH])
        assert find_runaway(output(ids, generator.uniform(-9.0, -0.1), end=end), source, 0) is None


def test_one_word_may_become_a_phrase_and_a_wordy_answer_stay() -> None:
    """Up to what no translation reaches, scores decide."""
    assert find_runaway(output([*range(18)], -5.0), [1, 0], 0) is None
    assert find_runaway(output([*range(20)], -1.2), [1, 0], 0) is None
    assert find_runaway(output([*range(21)], -1.3), [1, 0], 0) is Fallback.LENGTH
    assert find_runaway(output([*range(26)], -1.2), [1, 0], 0) is None
    assert find_runaway(output([*range(27)], -0.1), [1, 0], 0) is Fallback.LENGTH


def test_a_prefix_of_the_callers_counts_neither_in_length_nor_in_score() -> None:
    """Its tokens add nothing to the log-probability, and there may be many."""
    for prefix_length, mean, expected in ((0, -1.2, None), (40, -1.2, None), (40, -1.3, Fallback.LENGTH)):
        best = output([*range(prefix_length + 21)], mean, prefix_length=prefix_length)
        assert find_runaway(best, [1, 0], prefix_length) is expected


@pytest.mark.parametrize("seed", range(20))
def test_what_a_stream_has_sent_stays(seed: int) -> None:
    """After every token: what is firm by then but for the last token, of few words and thus of repeats of all kinds."""
    generator = random.Random(seed)
    for _ in range(200):
        ids = [generator.randrange(1 + seed) for _ in range(generator.randrange(90))]
        source_length, prefix_length = generator.randrange(1, 40), generator.choice([0, 0, 1, 7, 30])
        kept = firm_length(ids, source_length, prefix_length)
        for count in range(len(ids)):
            assert min(firm_length(ids[:count], source_length, prefix_length), count - 1) <= kept
        assert kept >= min(prefix_length, len(ids))


def test_ordinary_outputs_are_firm_at_once() -> None:
    """Nothing of them is held back but what repeats."""
    assert firm_length([*range(42)], 20, 0) == 42
    assert firm_length([*range(100)], 20, 0) == 42
    assert firm_length([*range(100)], 20, 10) == 52
    assert firm_length([1, 2, 3, 4, 5, 1, 2, 3, 4], 20, 0) == 7


def test_the_second_decoding_is_bounded_and_keeps_what_the_caller_set() -> None:
    """Its limit leaves room for the end of a sentence, and is never above the caller's or the model's."""
    ids = [*range(200)]
    options = guarded_options(DecodingOptions(), ids, 20, limit=LIMIT)
    assert options.target_prefix == tuple(range(42))
    assert (options.max_output_tokens, options.no_repeat_ngram_size) == (57, 3)
    asked = DecodingOptions(max_output_tokens=50, no_repeat_ngram_size=2, target_prefix=(0, 1), beam_size=4)
    options = guarded_options(asked, ids, 20, limit=LIMIT)
    assert options.target_prefix == tuple(range(44))
    assert (options.max_output_tokens, options.no_repeat_ngram_size, options.beam_size) == (50, 2, 4)
    assert guarded_options(DecodingOptions(no_repeat_ngram_size=8), ids, 20, limit=45).no_repeat_ngram_size == 3
    assert guarded_options(DecodingOptions(), ids, 20, limit=45).max_output_tokens == 45
