"""Texts of mixed lengths: made of the sentences given, short and long, the same for the same seed."""

from __future__ import annotations

from statistics import quantiles

from loadtests.mixed_lengths import mixed_lengths

SENTENCES = tuple(f"第{number}天，我们在城里看了很多东西，然后回家。" for number in range(300))


def test_lengths_spread_far_beyond_those_of_the_sentences() -> None:
    """The longest tenth has at least four times the characters of the shortest tenth."""
    tenths = quantiles(map(len, mixed_lengths(SENTENCES, seed=1)), n=10)
    assert tenths[-1] >= 4 * tenths[0]
    assert max(map(len, SENTENCES)) - min(map(len, SENTENCES)) <= 2


def test_each_text_is_one_sentence() -> None:
    """A full stop stands at its end or nowhere."""
    assert all("。" not in text[:-1] for text in mixed_lengths(SENTENCES, seed=2))


def test_a_seed_says_all() -> None:
    """Equal seeds give equal texts, others do not."""
    assert mixed_lengths(SENTENCES, seed=3) == mixed_lengths(SENTENCES, seed=3)
    assert mixed_lengths(SENTENCES, seed=3) != mixed_lengths(SENTENCES, seed=4)


def test_words_with_spaces_are_joined_by_a_comma_and_a_space() -> None:
    """English sentences stay readable, none of their clauses is empty."""
    texts = mixed_lengths(("It rained, so we stayed.", "We read."), seed=5) * 1
    texts += mixed_lengths(("It rained, so we stayed.", "We read.") * 50, seed=6)
    assert all(text.strip() for text in texts)
    assert any("We read, " in text for text in texts)
