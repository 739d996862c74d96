"""The text of a run: sentences, their references, and their token ids."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

from service.errors import DataError


@dataclass(frozen=True, slots=True)
class Text:
    """Sentences, a reference for each, and their token ids (EOS included)."""

    sentences: list[str]
    references: list[str]
    ids: list[list[int]]


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 text file, packed with gzip if its name ends so. Raises DataError."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            return [line.rstrip("\r\n") for line in file]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not whole UTF-8 text"
        raise DataError(f"cannot read {path}: {reason}") from None


def read_parallel(text: Path, references: Path, *, limit: int) -> tuple[list[str], list[str]]:
    """The first `limit` sentences of two files that have a line for each other's. Raises DataError."""
    sentences, targets = read_lines(text), read_lines(references)
    if len(sentences) != len(targets) or not sentences:
        raise DataError(f"{text} has {len(sentences)} lines and {references} {len(targets)}")
    return sentences[:limit], targets[:limit]
