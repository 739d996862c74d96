"""Which shapes the graphs run in on a device: few of them in fast mode, one of each in deterministic mode."""

from __future__ import annotations

from dataclasses import dataclass

from service.engine import ModelLimits
from service.runtime.settings import DecodingMode

_DOUBLED_UP_TO = 16
ENCODER_SENTENCES = 8
"""Sentences that one run of the encoder holds in deterministic mode."""


@dataclass(frozen=True, slots=True)
class StepShapes:
    """Sizes to which a mode pads.

    On a GPU the kernel that a library picks, and with it the last bits of a row, depends on the shape of a batch.
    `deterministic` leaves it no choice: every decode step has all row slots and all places of sentences, every run of
    the encoder ENCODER_SENTENCES sentences of full length. `fast` pads no further than to the next size of a list.
    """

    mode: DecodingMode
    limits: ModelLimits

    @property
    def all_places(self) -> bool:
        """Whether a step reads the places of all sentences that could be there."""
        return self.mode == "deterministic"

    def rows(self, count: int) -> int:
        """Rows that a step for `count` rows runs over."""
        if self.mode == "deterministic":
            return self.limits.row_slots
        if count <= _DOUBLED_UP_TO:
            padded = 1 << (count - 1).bit_length()
        else:
            padded = -(-count // _DOUBLED_UP_TO) * _DOUBLED_UP_TO
        return min(padded, self.limits.row_slots)

    def encoder_sentences(self, count: int) -> int:
        """Sentences that one run of the encoder holds, of `count` that wait."""
        return ENCODER_SENTENCES if self.mode == "deterministic" else count

    def encoder_width(self, longest: int) -> int:
        """Positions to which the sources of one run are padded."""
        return self.limits.max_source_tokens if self.mode == "deterministic" else longest
