"""The texts that a load test sends, drawn with a seed so that a run can be repeated text by text."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from service.errors import DataError

LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")


def read_texts(path: Path) -> tuple[str, ...]:
    """The first column of each line of a UTF-8 text or TSV file; blank lines and a head of language codes are left out.

    Raises DataError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"cannot read {path}: {reason}") from None
    if lines and is_head(lines[0]):
        del lines[0]
    texts = tuple(text for line in lines if (text := line.partition("\t")[0].strip()))
    if not texts:
        raise DataError(f"{path} holds no text")
    return texts


def is_head(line: str) -> bool:
    """Whether a line names the languages of a table's columns rather than holding text."""
    cells = line.split("\t")
    return len(cells) > 1 and all(LANGUAGE_CODE.fullmatch(cell) for cell in cells)


def draw_texts(texts: tuple[str, ...], *, seed: int) -> Iterator[str]:
    """Texts without end: each of ``texts`` once in a shuffled order, then all again in another."""
    generator = random.Random(seed)
    while True:
        yield from generator.sample(texts, len(texts))
