"""Splitting texts into sentences and sentences into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.segmentation import Boundary, Segment, is_spaced, split_long, split_sentences


def texts(text: str, segments: list[Segment]) -> list[str]:
    """The text of each segment."""
    return [text[segment.start : segment.end] for segment in segments]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Mr. Smith left. He was late!", ["Mr. Smith left.", "He was late!"]),
        ("de", "Er kam z. B. gestern. Danach ging er.", ["Er kam z. B. gestern.", "Danach ging er."]),
        ("zh", "你好。我很好！你呢？", ["你好。", "我很好！", "你呢？"]),
        ("ar", "مرحبا؟ نعم.", ["مرحبا؟", "نعم."]),
        ("en", "one\ntwo\r\n\r\n  three  ", ["one", "two", "three"]),
        ("en", " \t\n ", []),
        ("en", "", []),
        ("en", "😀 Hi. \x00\x07", ["😀 Hi.", "\x00\x07"]),
    ],
)
def test_sentences_are_found_in_each_language(language: str, text: str, expected: list[str]) -> None:
    """Abbreviations do not end a sentence, full-width stops do, and lines never join."""
    assert texts(text, split_sentences(text, language)) == expected


@given(st.text(max_size=200), st.sampled_from(["en", "zh", "ar", "th", "xx", ""]))
def test_only_white_space_lies_between_sentences(text: str, language: str) -> None:
    """Whatever the text, sentences are in order, not blank, and everything outside them is white space."""
    position = 0
    for segment in split_sentences(text, language):
        assert text[position : segment.start].strip() == ""
        assert text[segment.start : segment.end].strip() == text[segment.start : segment.end] != ""
        position = segment.end
    assert text[position:].strip() == ""


@given(st.text(min_size=1, max_size=300), st.integers(1, 40))
def test_pieces_of_a_long_sentence_fit_and_lose_nothing(text: str, limit: int) -> None:
    """Pieces fit, are in order, and only white space is between them."""
    for sentence in split_sentences(text, "en"):
        position = sentence.start
        for piece in split_long(text, sentence, lambda content: len(content) <= limit):
            assert piece.end - piece.start <= limit
            assert text[position : piece.start].strip() == ""
            position = piece.end
        assert position == sentence.end


def test_a_long_sentence_is_cut_at_clauses_then_words_then_characters() -> None:
    """The kind of each cut is told, and the last piece still ends the sentence."""
    text = "The first clause is here, and the second one follows it."
    whole = Segment(start=0, end=len(text))
    assert split_long(text, whole, lambda content: True) == [whole]
    pieces = split_long(text, whole, lambda content: len(content) <= 32)
    assert texts(text, pieces) == ["The first clause is here,", "and the second one follows it."]
    assert [piece.boundary for piece in pieces] == [Boundary.CLAUSE, Boundary.SENTENCE]
    words = "one two three four"
    pieces = split_long(words, Segment(start=0, end=len(words)), lambda content: len(content) <= 10)
    assert (texts(words, pieces), pieces[0].boundary) == (["one two", "three four"], Boundary.WORD)
    pieces = split_long("a" * 12, Segment(start=0, end=12), lambda content: len(content) <= 6)
    assert [piece.boundary for piece in pieces] == [Boundary.CHARACTER, Boundary.SENTENCE]


def test_a_number_is_not_cut_at_its_comma() -> None:
    """Commas and colons inside a word are no clause ends."""
    text = "They counted 1,000,000 at 10:30 sharp"
    pieces = split_long(text, Segment(start=0, end=len(text)), lambda content: len(content) <= 25)
    assert [piece.boundary for piece in pieces] == [Boundary.WORD, Boundary.SENTENCE]


def test_a_character_keeps_its_marks() -> None:
    """A combining mark or an emoji's joiner stays with its base."""
    text = "ae\u0301e\u0301b"
    pieces = split_long(text, Segment(start=0, end=len(text)), lambda content: len(content) <= 4)
    assert all(piece[0] != "\u0301" for piece in texts(text, pieces))


def test_languages_without_spaces_are_known() -> None:
    """Chinese in any script or region has none; German has."""
    assert not is_spaced("zh-Hant-TW")
    assert is_spaced("de")
