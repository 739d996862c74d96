"""Generated texts: repeatable, and as long as real ones."""

import statistics

from loadtests.generated_corpus import DOCUMENT, LONG, SHORT, generated_texts, mixed_texts
from service.segmentation import split_sentences


def words(texts: tuple[str, ...]) -> list[int]:
    """Words of each text."""
    return sorted(len(text.split()) for text in texts)


def test_equal_seeds_give_equal_texts() -> None:
    """A run can be repeated text by text; another seed is another corpus."""
    assert mixed_texts(count=50, seed=1) == mixed_texts(count=50, seed=1) != mixed_texts(count=50, seed=2)


def test_lengths_are_those_of_the_corpora_they_stand_for() -> None:
    """Medians of 6 words as in Tatoeba and 23 as in Europarl, with their tails; a document has several sentences."""
    short, long = (words(generated_texts(each, count=2000, seed=3)) for each in (SHORT, LONG))
    assert 5 <= statistics.median(short) <= 7
    assert 21 <= statistics.median(long) <= 25
    assert 18 <= short[1980] <= 26
    assert 65 <= long[1980] <= 80
    assert all(len(split_sentences(text, "en")) >= 2 for text in generated_texts(DOCUMENT, count=50, seed=3))


def test_a_sentence_is_one_sentence() -> None:
    """Each begins with a capital, ends with a full stop or question mark, and is not cut by the service."""
    texts = generated_texts(LONG, count=200, seed=4)
    assert all(text[0].isupper() and text[-1] in ".?" for text in texts)
    assert all(len(split_sentences(text, "en")) == 1 for text in texts)
