"""Heat maps of alignments."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman.v1 import translation_pb2 as pb
from service.client.heatmap import DrawingError, terminal_heatmap, weight_rows, write_png

ALIGNMENT = pb.Alignment(
    source_tokens=[pb.Token(text="\u2581Ich"), pb.Token(text="\u2581bin"), pb.Token(text="</s>")],
    target_tokens=[pb.Token(text="\u2581I"), pb.Token(text="\u2581am")],
    weights=[1.0, 0.0, 0.0, 0.0, 0.5, 0.5],
)


def test_weights_are_rows_of_target_tokens() -> None:
    """One row per target token, one column per source token."""
    assert weight_rows(ALIGNMENT) == [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]


def test_the_terminal_shows_tokens_and_shades() -> None:
    """Source tokens stand over their columns, target tokens before their rows; darker is more."""
    lines = terminal_heatmap(ALIGNMENT).splitlines()
    assert lines[-2:] == [" I ███", "am    ▒▒▒▒▒▒"]
    assert [line.strip() for line in lines[:4]] == ["<", "I  b  /", "c  i  s", "h  n  >"]


def test_wide_characters_keep_the_columns_straight() -> None:
    """A Chinese character takes two columns of a terminal."""
    alignment = pb.Alignment(
        source_tokens=[pb.Token(text="你"), pb.Token(text="a")],
        target_tokens=[pb.Token(text="好"), pb.Token(text="xy")],
        weights=[0.0, 1.0, 1.0, 0.0],
    )
    assert terminal_heatmap(alignment).splitlines() == ["    你 a", "好    ███", "xy ███"]


def test_a_picture_is_written(tmp_path: Path) -> None:
    """A PNG, where matplotlib is installed."""
    path = tmp_path / "map.png"
    write_png(ALIGNMENT, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(DrawingError, match="cannot write"):
        write_png(ALIGNMENT, tmp_path / "nowhere" / "map.png")
