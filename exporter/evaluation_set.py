"""Sentences to score a model on: files of pairs, or one table with a column for each language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.checkpoint import LanguagePair
from exporter.data import parse_corpus, read_lines, read_pairs
from exporter.noise import noised
from service.errors import DataError, InvalidInputError

BUCKETS = ((1, 5), (6, 10), (11, 20), (21, 40), (41, None))
"""Ranges of source words, first and last included, by which scores are broken down."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Sentences of one direction and a reference for each."""

    name: str
    pair: LanguagePair
    sources: list[str]
    references: list[str]

    @property
    def direction(self) -> str:
        """The direction, such as ``en-de``."""
        return f"{self.pair.source}-{self.pair.target}"

    def first(self, limit: int | None) -> EvaluationSet:
        """Return the set cut to its first ``limit`` sentences."""
        return EvaluationSet(self.name, self.pair, self.sources[:limit], self.references[:limit])

    def noised(self) -> EvaluationSet:
        """Return the set with misspelt sources, always in the same way."""
        generator = np.random.default_rng(1)
        return EvaluationSet(
            f"{self.name}, noised", self.pair, [noised(source, generator) for source in self.sources], self.references
        )

    def bucket(self, first: int, last: int | None) -> list[int]:
        """Return the indices of sources of ``first`` to ``last`` words."""
        counts = [len(source.split()) for source in self.sources]
        return [index for index, count in enumerate(counts) if count >= first and (last is None or count <= last)]


def pairs_set(text: str, pairs: Sequence[LanguagePair]) -> EvaluationSet:
    """Read the set that ``en-de=FILE`` names.

    Raises:
        InvalidInputError: when the model has no such direction.
        DataError: when the file is not one of pairs.
    """
    corpus = parse_corpus(text)
    for pair in pairs:
        if (pair.source, pair.target) == (corpus.source, corpus.target):
            read = read_pairs(corpus.path)
            return EvaluationSet(corpus.path.name, pair, read.sources, read.targets)
    known = ", ".join(f"{pair.source}-{pair.target}" for pair in pairs)
    raise InvalidInputError(f"--data {corpus.direction}: the model translates {known}")


def table_sets(path: Path, pairs: Sequence[LanguagePair]) -> list[EvaluationSet]:
    """Read a table whose header names a language for each column; return a set for each direction it can score.

    Raises:
        DataError: when a row has another number of columns than the header, an empty cell, or no direction fits.
    """
    lines = read_lines(path)
    header = next(lines, "").split("\t")
    rows: list[list[str]] = []
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != len(header) or not all(cell.strip() for cell in cells):
            raise DataError(f"{path}:{number}: expected {len(header)} filled columns ({', '.join(header)})")
        rows.append(cells)
    fitting = [pair for pair in pairs if pair.source in header and pair.target in header]
    if not rows or not fitting:
        raise DataError(f"{path}: no sentences for the languages of the model")
    columns = {language: [row[index] for row in rows] for index, language in enumerate(header)}
    return [EvaluationSet(path.name, pair, columns[pair.source], columns[pair.target]) for pair in fitting]
