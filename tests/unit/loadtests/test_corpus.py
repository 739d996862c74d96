"""Texts of a run come from a file and are drawn with a seed."""

from itertools import islice
from pathlib import Path

import pytest

from loadtests.corpus import draw_texts, read_texts
from service.errors import DataError


def test_the_first_column_is_the_text(tmp_path: Path) -> None:
    """A TSV's other columns and its blank lines are left out."""
    path = tmp_path / "x.tsv"
    path.write_text("I love you.\tIch liebe dich.\n\n  \nGood morning.\n", encoding="utf-8")
    assert read_texts(path) == ("I love you.", "Good morning.")


def test_a_head_of_language_codes_is_no_text(tmp_path: Path) -> None:
    """The names of a table's columns are not sent; a single short word is a text."""
    table, text = tmp_path / "x.tsv", tmp_path / "x.txt"
    table.write_text("en\tde\nGood morning.\tGuten Morgen.\n", encoding="utf-8")
    text.write_text("no\nyes\n", encoding="utf-8")
    assert read_texts(table) == ("Good morning.",)
    assert read_texts(text) == ("no", "yes")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\xff"])
def test_a_file_without_text_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty, blank or undecodable file is one clear error."""
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.txt"):
        read_texts(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(DataError, match="nowhere"):
        read_texts(tmp_path / "nowhere")


def test_every_text_comes_once_per_round() -> None:
    """Rounds are shuffled, complete and repeatable."""
    texts = tuple("abcdef")
    drawn = list(islice(draw_texts(texts, seed=3), 12))
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == sorted(texts)
    assert drawn == list(islice(draw_texts(texts, seed=3), 12))
