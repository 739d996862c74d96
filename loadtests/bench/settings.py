"""The searches that are compared and how a system is set up; every system's process reads these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search and its rules. `length_penalty` divides a score by length**penalty.

    `stops_at_best`: a beam search ends when the best candidate of a step is a finished one (Marian's rule, and
    CTranslate2's where there is no length penalty). Otherwise it ends by each library's own rule for normalised
    scores: ours is that of transformers with early_stopping=False, CTranslate2 ends as soon as `beam_size` hypotheses
    are finished, which is never later.
    """

    name: str
    beam_size: int = 1
    length_penalty: float = 1.0
    stops_at_best: bool = False

    @property
    def same_rule_everywhere(self) -> bool:
        """Whether our engine and CTranslate2 end this search by the same rule."""
        return self.beam_size == 1 or self.stops_at_best


SEARCHES = {
    search.name: search
    for search in (
        Search(name="greedy"),
        Search(name="beam4", beam_size=4, length_penalty=0.0, stops_at_best=True),
        Search(name="beam4-normalised", beam_size=4),
    )
}
MAX_OUTPUT_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one system runs; a field that a system does not know stays at its default.

    `call_size`: sentences handed over in one call. `row_slots`: hypotheses in a worker's batch (ours).
    `max_batch_size` and `batch_type`: CTranslate2's own. `longest_first`: order of a whole file.
    """

    workers: int
    threads: int
    call_size: int = 1
    row_slots: int = 0
    max_batch_size: int = 0
    batch_type: str = "examples"
    longest_first: bool = False

    @property
    def layout(self) -> str:
        """Workers x threads of each."""
        return f"{self.workers}x{self.threads}"

    def describe(self) -> str:
        """The settings in a few words for a table."""
        words = [self.layout]
        if self.row_slots:
            words.append(f"{self.row_slots} rows")
        else:
            words.append(f"calls of {self.call_size}")
        if self.max_batch_size:
            words.append(f"batches of {self.max_batch_size} {self.batch_type}")
        return ", ".join([*words, "longest first"] if self.longest_first else words)
