"""The texts that a load test sends, drawn with a seed so that a run can be repeated text by text."""

import random
from collections.abc import Iterator
from pathlib import Path

from service.errors import DataError


def read_texts(path: Path) -> tuple[str, ...]:
    """The first column of each line of a UTF-8 text or TSV file, blank ones left out. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"cannot read {path}: {reason}") from None
    texts = tuple(text for line in lines if (text := line.partition("\t")[0].strip()))
    if not texts:
        raise DataError(f"{path} holds no text")
    return texts


def draw_texts(texts: tuple[str, ...], *, seed: int) -> Iterator[str]:
    """Texts without end: each of ``texts`` once in a shuffled order, then all again in another."""
    generator = random.Random(seed)
    while True:
        yield from generator.sample(texts, len(texts))
