"""Two runs are held beside each other, ratio by ratio."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from loadtests.bench.repeated import main, markdown, read_ratios, repeated

FIRST = {
    "greedy, 1, over it": [2.0, 2.2, 2.1],
    "greedy, 8, over it": [1.5, 1.5, 1.6],
    "once": [3.0],
    "gone": [1.0, 1.1],
}
SECOND = {"greedy, 1, over it": [2.2, 2.0, 2.1], "greedy, 8, over it": [2.6, 2.5, 2.4], "once": [3.0], "new": [1.0]}


def test_a_second_median_is_where_it_is_expected_or_outside() -> None:
    """What only one run has, and what has a single round, says nothing."""
    same, other = repeated(FIRST, SECOND)
    assert (same.name, same.first, same.second, same.found) == ("greedy, 1, over it", 2.1, 2.1, True)
    assert (other.first, other.second, other.found) == (1.5, 2.5, False)
    text = markdown([same, other]).splitlines()
    assert [line.endswith("| outside |") for line in text[2:4]] == [False, True]
    assert text[-1].startswith("1 of 2 where")


def test_results_are_compared_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two files of results give the table and exit code 0."""
    for name, ratios in (("first", FIRST), ("second", SECOND)):
        (tmp_path / name).write_text(json.dumps({"ratios": ratios, "rows": []}))
    monkeypatch.setattr(sys, "argv", ["repeated", str(tmp_path / "first"), str(tmp_path / "second")])
    assert main() == 0
    assert "1 of 2 where" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"ratios": []}', '{"ratios": {"name": 3}}', None])
def test_what_is_no_result_is_one_line(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the file is named."""
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(sys, "argv", ["repeated", str(path), str(path)])
    assert main() == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: ")


def test_published_runs_can_be_compared(repository: Path) -> None:
    """What docs/results holds twice has ratios of the same names."""
    seconds = sorted((repository / "docs" / "results").glob("*-again.json"))
    assert seconds
    for path in seconds:
        first = path.with_name(path.name.replace("-again", ""))
        assert repeated(read_ratios(first), read_ratios(path))
