"""The report says what was measured, what does not count, and draws the same ratios."""

import json
from pathlib import Path

import pytest

from loadtests.bench.cases import INT8, OURS
from loadtests.bench.measuring import Row
from loadtests.bench.picture import write_picture
from loadtests.bench.quality import Quality
from loadtests.bench.report import as_json, lines_of, markdown, others_share, table
from loadtests.bench.statistics import Spread
from tests.unit.loadtests.bench.doubles import case_of, row_of, turn_of

IDS = [[1, 2], [3]]
GOOD = Quality(sentences=2, bleu=21.4, reference_bleu=21.5)
BAD = Quality(sentences=2, bleu=20.0, reference_bleu=21.5)


def rows_of(ours: tuple[float, ...], theirs: tuple[float, ...]) -> list[Row]:
    """The rows of one case."""
    case = case_of(OURS, INT8)
    return [row_of(OURS, IDS, rates=ours, case=case), row_of(INT8, IDS, rates=theirs, case=case)]


def test_the_ratio_is_ours_over_theirs_round_by_round() -> None:
    """Median, least and largest are those of the rounds' ratios, not of the throughputs."""
    ours, theirs = lines_of(rows_of((20.0, 10.0, 30.0), (10.0, 4.0, 20.0)), [GOOD, GOOD])
    assert ours.ratio is None
    assert theirs.ratio == Spread(2.0, 1.5, 2.5)
    assert theirs.counted


@pytest.mark.parametrize("qualities", [[GOOD, BAD], [BAD, GOOD]])
def test_a_ratio_counts_only_when_both_rows_do(qualities: list[Quality]) -> None:
    """Neither our own bad translations nor a peer's make a ratio."""
    assert not lines_of(rows_of((2.0,), (1.0,)), qualities)[1].counted


def test_the_table_shows_every_row_and_marks_what_does_not_count() -> None:
    """Terminal and Markdown hold sentences/s, tokens/s, BLEU, the ratio with its spread, and the remark."""
    lines = lines_of(rows_of((20.0, 30.0), (10.0, 10.0)), [GOOD, BAD])
    last = table(lines).splitlines()[-1].split()
    for cell in (INT8, "10.0", "300", "20.00", "2.50", "2.00-3.00"):
        assert cell in last
    assert table(lines).splitlines()[-1].endswith("not counted")
    assert not table(lines).splitlines()[1].endswith("not counted")
    assert len(markdown(lines).splitlines()) == 4


def test_the_json_holds_every_round() -> None:
    """Whoever doubts a median finds the rounds behind it."""
    found = as_json(lines_of(rows_of((2.0, 3.0), (1.0, 1.0)), [GOOD, GOOD]), facts={"seconds": 1.0})
    row = json.loads(json.dumps(found))["rows"][1]
    assert found["seconds"] == 1.0
    assert row["ours_over_this_by_round"] == [2.0, 3.0]
    assert row["ours_over_this"] == {"median": 2.5, "least": 2.0, "largest": 3.0}
    least, largest = row["ours_over_this_in_second_run"]
    assert least < 2.0 < 3.0 < largest
    assert len(row["rounds"]) == 2
    assert row["counted"] is True


def test_what_other_processes_used_is_told() -> None:
    """Half of one of two cores is a quarter; without /proc it is not known."""
    assert others_share([turn_of(1.0, others=5.0), turn_of(1.0, others=5.0)], cores=2) == 0.25
    assert others_share([turn_of(1.0, others=None)], cores=2) is None


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    """A PNG comes out for counted and uncounted lines, and for a run that compares nothing."""
    lines = lines_of(rows_of((2.0, 3.0), (1.0, 1.0)), [GOOD, BAD])
    write_picture(lines, tmp_path / "some.png")
    write_picture(lines[:1], tmp_path / "none.png")
    for name in ("some.png", "none.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
