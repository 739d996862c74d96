"""A row counts only where its BLEU is within 0.3 of CTranslate2 float32's on the same sentences."""

from collections.abc import Sequence

import pytest

from loadtests.bench.cases import INT8, OURS, REFERENCE
from loadtests.bench.quality import Judge, Quality
from tests.unit.loadtests.bench.doubles import row_of

WORDS = ["the", "old", "man", "reads", "a", "book", "in", "his", "garden", "every", "day", "wrong"]
REFERENCES = ["the old man reads a book", "a book in his garden every day", "every day the man reads"]
RIGHT = [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9, 10], [9, 10, 0, 2, 3]]
WRONG = [[11, 11, 11, 11], [11, 11, 11, 11], [11, 11, 11, 11]]


def decode(ids: Sequence[int]) -> str:
    """Ids to words."""
    return " ".join(WORDS[index] for index in ids)


@pytest.mark.parametrize(
    ("bleu", "reference", "counted"),
    [(21.5, 21.5, True), (21.2, 21.5, True), (21.8, 21.5, True), (21.19, 21.5, False), (21.81, 21.5, False)],
)
def test_only_rows_within_the_tolerance_count(bleu: float, reference: float, counted: bool) -> None:
    """0.3 either way, the bound itself included."""
    assert Quality(sentences=100, bleu=bleu, reference_bleu=reference).counted is counted


def test_without_the_reference_nothing_counts() -> None:
    """A run without CTranslate2 float32 has no BLEU to meet."""
    rows = [row_of(OURS, RIGHT)]
    quality = Judge(rows, REFERENCES, decode).judge(rows[0])
    assert quality.bleu == pytest.approx(100.0)
    assert quality.reference_bleu is None
    assert not quality.counted


def test_a_row_that_translates_worse_does_not_count() -> None:
    """Speed bought with quality is no speed."""
    rows = [row_of(OURS, RIGHT), row_of(INT8, WRONG), row_of(REFERENCE, RIGHT)]
    judge = Judge(rows, REFERENCES, decode)
    assert [judge.judge(row).counted for row in rows] == [True, False, True]


def test_a_short_row_is_completed_from_its_systems_longest() -> None:
    """A row's own translations count where it has them, so a broken short row cannot hide behind a good long one."""
    good, broken = row_of(OURS, RIGHT[:1]), row_of(OURS, WRONG[:1])
    rows = [good, broken, row_of(OURS, RIGHT), row_of(REFERENCE, RIGHT)]
    judge = Judge(rows, REFERENCES, decode)
    quality = judge.judge(good)
    assert quality.sentences == 3
    assert quality.bleu == pytest.approx(100.0)
    assert quality.reference_bleu == pytest.approx(100.0)
    assert not judge.judge(broken).counted


def test_a_system_with_less_text_is_compared_on_that_text() -> None:
    """Where a system never translated the whole file, the reference is scored on the same first sentences."""
    short = row_of(INT8, RIGHT[:2])
    judge = Judge([short, row_of(REFERENCE, [*RIGHT[:2], WRONG[2]])], REFERENCES, decode)
    quality = judge.judge(short)
    assert quality.sentences == 2
    assert quality.counted
