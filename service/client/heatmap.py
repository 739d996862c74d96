"""Draws alignments: with block characters for a terminal, and as a PNG where matplotlib is installed."""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path

from dragoman.v1 import translation_pb2 as pb

WORD_START = "\u2581"
_SHADES = " ░▒▓█"
_CELL = 3


class DrawingError(Exception):
    """A heat map cannot be drawn; the text says what to do."""


def weight_rows(alignment: pb.Alignment) -> list[list[float]]:
    """The attention weights as (target tokens, source tokens)."""
    width = len(alignment.source_tokens)
    weights = list(alignment.weights)
    return [weights[start : start + width] for start in range(0, len(weights), width)]


def terminal_heatmap(alignment: pb.Alignment) -> str:
    """A row per target token, a column per source token, shades for weights; source tokens are read downwards."""
    source = [_label(token) for token in alignment.source_tokens]
    target = [_label(token) for token in alignment.target_tokens]
    margin = max((_columns(label) for label in target), default=0)
    height = max((len(label) for label in source), default=0)
    lines = []
    for row in range(height):
        letters = [_centred(label.rjust(height)[row]) for label in source]
        lines.append((" " * (margin + 1) + "".join(letters)).rstrip())
    for label, weights in zip(target, weight_rows(alignment), strict=True):
        cells = "".join(_shade(weight) * _CELL for weight in weights)
        lines.append(f"{' ' * (margin - _columns(label))}{label} {cells}".rstrip())
    return "\n".join(lines)


def write_png(alignment: pb.Alignment, path: Path) -> None:
    """Writes the heat map as a picture. Raises DrawingError without matplotlib or where the file cannot be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DrawingError("a PNG needs matplotlib: pip install 'dragoman[plot]'") from None
    width, height = len(alignment.source_tokens), len(alignment.target_tokens)
    figure = Figure(figsize=(2.0 + 0.45 * width, 1.5 + 0.35 * height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(weight_rows(alignment), vmin=0.0, vmax=1.0, cmap="Blues", aspect="auto")
    axes.set_xticks(range(width), [_label(token) for token in alignment.source_tokens], rotation=60, ha="right")
    axes.set_yticks(range(height), [_label(token) for token in alignment.target_tokens])
    axes.set_xlabel("source")
    axes.set_ylabel("translation")
    figure.colorbar(image, label="attention")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a font without some script's letters draws boxes
            FigureCanvasAgg(figure).print_png(str(path))  # type: ignore[no-untyped-call]
    except OSError as error:
        raise DrawingError(f"cannot write {path}: {error.strerror}") from None


def _label(token: pb.Token) -> str:
    """A token as a reader expects it: without the mark of a word's start."""
    return token.text.removeprefix(WORD_START) or "_"


def _columns(text: str) -> int:
    """Columns that a terminal gives to `text`: two for each wide character, as Chinese ones are."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _centred(character: str) -> str:
    return " " + character + " " * (_CELL - 1 - _columns(character))


def _shade(weight: float) -> str:
    return _SHADES[min(len(_SHADES) - 1, round(weight * (len(_SHADES) - 1)))]
