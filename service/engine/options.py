"""What a caller may ask of one decoding: the search, its limits and what it hands back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from service.errors import InvalidInputError

MAX_BEAM_SIZE = 8
MAX_NO_REPEAT_NGRAM_SIZE = 16
MAX_TEMPERATURE = 100
MAX_TOP_K = 1000


class Priority(Enum):
    """The two service classes; interactive callers wait, bulk callers want throughput."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class LengthPenaltyKind(Enum):
    """How a hypothesis' log-probability is normalised by its length (EOS counted, start token not).

    MARIAN divides by length**alpha; GNMT divides by ((5 + length) / 6)**alpha (Wu et al., 2016, equation 14).
    """

    MARIAN = "marian"
    GNMT = "gnmt"


class StoppingRule(Enum):
    """When a beam search ends.

    REFERENCE: `beam_size` hypotheses are finished and none that runs can beat the worst of them at its present
    length (transformers with early_stopping=False). MARIAN: the best candidate of a step is a finished one.
    """

    REFERENCE = "reference"
    MARIAN = "marian"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingOptions:
    """Options of one sequence; an impossible combination raises InvalidInputError naming the field.

    `max_output_tokens` counts EOS; None means the engine's own limit. `top_k` 0 and `top_p` 1 switch those filters
    off. `target_prefix` holds token ids that the output must begin with; they add nothing to the score.
    """

    beam_size: int = 1
    num_hypotheses: int = 1
    length_penalty: float = 1.0
    length_penalty_kind: LengthPenaltyKind = LengthPenaltyKind.MARIAN
    stopping_rule: StoppingRule = StoppingRule.REFERENCE
    max_output_tokens: int | None = None
    min_output_tokens: int = 0
    no_repeat_ngram_size: int = 0
    sampling: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    target_prefix: tuple[int, ...] = ()
    return_alignments: bool = False
    return_token_scores: bool = False

    def __post_init__(self) -> None:
        self._check_search()
        self._check_lengths()
        self._check_sampling()

    def _check_search(self) -> None:
        _require("beam_size", 1 <= self.beam_size <= MAX_BEAM_SIZE, f"must be 1 to {MAX_BEAM_SIZE}")
        _require("num_hypotheses", 1 <= self.num_hypotheses <= self.beam_size, "must be 1 to beam_size")
        _require("length_penalty", math.isfinite(self.length_penalty), "must be a finite number")
        _require("length_penalty", 0.0 <= self.length_penalty <= 10.0, "must be 0 to 10")
        in_range = 0 <= self.no_repeat_ngram_size <= MAX_NO_REPEAT_NGRAM_SIZE
        _require("no_repeat_ngram_size", in_range, f"must be 0 to {MAX_NO_REPEAT_NGRAM_SIZE}")

    def _check_lengths(self) -> None:
        _require("min_output_tokens", self.min_output_tokens >= 0, "must not be negative")
        if self.max_output_tokens is None:
            return
        _require("max_output_tokens", self.max_output_tokens >= 1, "must be at least 1")
        _require("min_output_tokens", self.min_output_tokens <= self.max_output_tokens, "exceeds max_output_tokens")
        _require("target_prefix", len(self.target_prefix) < self.max_output_tokens, "leaves no room for an output")

    def _check_sampling(self) -> None:
        _require("temperature", math.isfinite(self.temperature) and self.temperature > 0, "must be more than 0")
        _require("temperature", self.temperature <= MAX_TEMPERATURE, f"must be at most {MAX_TEMPERATURE}")
        _require("top_k", 0 <= self.top_k <= MAX_TOP_K, f"must be 0 to {MAX_TOP_K}")
        _require("top_p", 0.0 < self.top_p <= 1.0, "must be more than 0 and at most 1")
        _require("seed", self.seed is None or 0 <= self.seed < 2**63, "must be 0 to 2**63 - 1")
        if self.sampling:
            _require("beam_size", self.beam_size == 1, "must be 1 when sampling")
            return
        unused = self.temperature == 1.0 and self.top_k == 0 and self.top_p == 1.0
        _require("sampling", unused, "must be on for temperature, top_k or top_p to have an effect")


def _require(field: str, holds: bool, message: str) -> None:
    if not holds:
        raise InvalidInputError(f"{field} {message}", field=field)
