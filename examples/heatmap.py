"""An alignment as a heat map of characters, for a terminal."""

from collections.abc import Sequence

SHADES = " ·░▒▓█"
MAX_CELL = 8


def shade(weight: float) -> str:
    """The character for an attention weight of 0 to 1: darker is more."""
    return SHADES[min(int(max(weight, 0.0) * len(SHADES)), len(SHADES) - 1)]


def draw(source: Sequence[str], target: Sequence[str], weights: Sequence[Sequence[float]]) -> str:
    """Lines of text: a row per target token, a column per source token; ``weights`` is (target, source)."""
    left = max((len(token) for token in target), default=0)
    widths = [min(max(len(token), 3), MAX_CELL) for token in source]
    head = " ".join(token[:width].ljust(width) for token, width in zip(source, widths, strict=True))
    lines = [f"{'':>{left}}  {head}".rstrip()]
    for token, row in zip(target, weights, strict=True):
        cells = " ".join(shade(weight) * width for weight, width in zip(row, widths, strict=True))
        lines.append(f"{token:>{left}}  {cells}".rstrip())
    return "\n".join(lines)
