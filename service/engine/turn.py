"""What one turn of a worker did, as it adds up."""

from __future__ import annotations

from dataclasses import dataclass

from service.engine.observer import StepRecord


@dataclass(slots=True)
class Turn:
    """See StepRecord for the meaning of each count; the cost model learns from the seconds."""

    rows: int = 0
    new_tokens: int = 0
    encoded_tokens: int = 0
    padded_tokens: int = 0
    copied_bytes: int = 0
    full_rows: int = 0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    search_seconds: float = 0.0

    def record(self, *, worker: int, sentences: int) -> StepRecord:
        """The turn as the observer is told, `sentences` being those that still run."""
        return StepRecord(
            worker=worker,
            rows=self.rows,
            sentences=sentences,
            new_tokens=self.new_tokens,
            encoded_tokens=self.encoded_tokens,
            padded_tokens=self.padded_tokens,
            copied_bytes=self.copied_bytes,
            full_rows=self.full_rows,
            encode_seconds=self.encode_seconds,
            decode_seconds=self.decode_seconds,
            search_seconds=self.search_seconds,
        )
