"""BLEU of every row, and which rows count: those within 0.3 of CTranslate2 float32 on the same sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU

from loadtests.bench.cases import REFERENCE
from loadtests.bench.measuring import Row
from loadtests.bench.protocol import IdRows

TOLERANCE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A row's BLEU over `sentences` and the reference system's over the same; None where that did not run."""

    sentences: int
    bleu: float
    reference_bleu: float | None

    @property
    def counted(self) -> bool:
        """Whether the row is close enough to the reference for its speed to count."""
        return self.reference_bleu is not None and abs(self.bleu - self.reference_bleu) <= TOLERANCE + 1e-9


class Judge:
    """Scores rows of one run.

    Few sentences make a noisy score, so a row that timed only the first ones takes the rest of its translations from
    its system's longest row with the same search.
    """

    def __init__(self, rows: Sequence[Row], references: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self._references = references
        self._decode = decode
        self._longest: dict[tuple[str, str], IdRows] = {}
        for row in rows:
            key = (row.system, row.case.search.name)
            if len(row.outputs) > len(self._longest.get(key, [])):
                self._longest[key] = row.outputs

    def judge(self, row: Row) -> Quality:
        """Score one row."""
        search = row.case.search.name
        completed = row.outputs + self._longest[(row.system, search)][len(row.outputs) :]
        reference = self._longest.get((REFERENCE, search))
        if reference is not None:
            completed = completed[: len(reference)]
        return Quality(
            sentences=len(completed),
            bleu=self._bleu(completed),
            reference_bleu=None if reference is None else self._bleu(reference[: len(completed)]),
        )

    def _bleu(self, outputs: IdRows) -> float:
        texts = [self._decode(ids) for ids in outputs]
        return float(BLEU().corpus_score(texts, [list(self._references[: len(texts)])]).score)


def signature() -> str:
    """What makes a score reproducible (sacrebleu; Post 2018, https://aclanthology.org/W18-6319)."""
    metric = BLEU()
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())
