"""Loops are caught, and ordinary texts are not taken for loops."""

from __future__ import annotations

import random

import pytest

from service.translator.repetition import first_repeat, is_looping


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
