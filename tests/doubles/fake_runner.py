"""A ModelRunner without a model: what comes next is a hash of the source and of what lies in the row's memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from service.engine import Batch, ModelLimits, RowCopy, StepOutput

VOCABULARY = 40
START, EOS, PAD = 1, 0, 1
HEAD = 4


def limits(
    *, row_slots: int = 8, max_source_tokens: int = 12, max_output_tokens: int = 24, lone_rows: int = 0
) -> ModelLimits:
    """Limits of a fake model."""
    return ModelLimits(
        row_slots=row_slots,
        sentence_slots=row_slots,
        max_source_tokens=max_source_tokens,
        max_output_tokens=max_output_tokens,
        source_vocabulary_size=VOCABULARY,
        vocabulary_size=VOCABULARY,
        start_id=START,
        eos_id=EOS,
        pad_id=PAD,
        has_alignments=True,
        lone_rows=lone_rows,
    )


def log_probs_after(source: Sequence[int], history: Sequence[int]) -> npt.NDArray[np.float32]:
    """Log-probabilities (VOCABULARY,) of the token after `history` (start token first); EOS gets likelier."""
    seed = zlib.crc32(np.array([*source, -1, *history], np.int64).tobytes())
    logits = np.random.default_rng(seed).normal(size=VOCABULARY) * 2.0
    logits[EOS] += 0.4 * len(history) - 2.0
    logits -= logits.max()
    log_probs: npt.NDArray[np.float32] = (logits - np.log(np.exp(logits).sum())).astype(np.float32)
    return log_probs


class FakeRunner:
    """Keeps what each row was fed in a memory that `copy_rows` really copies, so a wrong copy gives a wrong answer.

    Memory positions hold (token, sentence slot's serial), as real keys and values depend on both.
    """

    def __init__(
        self,
        model: ModelLimits | None = None,
        *,
        on_step: Callable[[Batch], None] | None = None,
        on_encode: Callable[[int], None] | None = None,
    ) -> None:
        self._limits = model or limits()
        self._on_step = on_step
        self._on_encode = on_encode
        self._memory = np.full((self._limits.row_slots + 1, self._limits.max_output_tokens, 2), -7, np.int64)
        self._sources: dict[int, tuple[int, ...]] = {}
        self._serials: dict[int, int] = {}
        self._serial = 0
        self.encoded: list[int] = []
        self.copied_positions = 0
        self.broken_sources: set[tuple[int, ...]] = set()

    @property
    def limits(self) -> ModelLimits:
        """Facts that do not change."""
        return self._limits

    @property
    def open_slots(self) -> set[int]:
        """Sentence slots that hold a sentence."""
        return set(self._sources)

    def encode(self, sources: Sequence[npt.NDArray[np.int32]], slots: Sequence[int], lanes: Sequence[int]) -> None:
        """Remember the sources."""
        self.encoded.append(len(sources))
        if self._on_encode is not None:
            self._on_encode(max(map(len, sources)) * len(sources))
        for source, slot, _ in zip(sources, slots, lanes, strict=True):
            if slot in self._sources:
                raise RuntimeError("a slot was given twice")
            self._serial += 1
            self._serials[slot] = self._serial
            self._sources[slot] = tuple(source.tolist())

    def release(self, slot: int) -> None:
        """Forget the source."""
        self._sources.pop(slot, None)

    def copy_rows(self, copies: Sequence[RowCopy]) -> int:
        """Copy memory between rows."""
        for copy in copies:
            self._memory[copy.target, copy.begin : copy.end] = self._memory[copy.source, copy.begin : copy.end]
            self.copied_positions += copy.end - copy.begin
        return self.copied_positions

    def decode_step(self, batch: Batch) -> StepOutput:
        """Append to each row's memory and look up what comes next."""
        if self._on_step is not None:
            self._on_step(batch)
        rows = len(batch.last_tokens)
        full = np.zeros((rows, VOCABULARY), np.float32)
        queries = np.zeros((rows, HEAD), np.float32)
        for row in range(rows):
            position, slot = int(batch.past_lengths[row]), int(batch.sentence_slots[row])
            self._memory[row, position] = (batch.last_tokens[row], self._serials[slot])
            seen = self._memory[row, : position + 1]
            if (seen[:, 1] != self._serials[slot]).any():
                raise RuntimeError("a row holds memory of another sentence")
            full[row] = log_probs_after(self._sources[slot], seen[:, 0].tolist())
            queries[row] = seen[:, 0].sum() % 7 + np.arange(HEAD)
            if self._sources[slot] in self.broken_sources:
                full[row] = np.nan
        full[batch.bans[:, 0], batch.bans[:, 1]] = -np.inf
        order = np.argsort(-full, axis=1, kind="stable")[:, : batch.best]
        return StepOutput(
            top_ids=order.astype(np.int64),
            top_log_probs=np.take_along_axis(full, order, axis=1),
            log_probs=full if batch.full_rows else None,
            alignment_queries=queries,
        )

    def align(self, slot: int, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Rows that sum to 1 and tell the queries apart."""
        weights = np.ones((len(queries), len(self._sources[slot])), np.float32)
        weights[:, 0] += queries.sum(axis=1)
        weights /= weights.sum(axis=1, keepdims=True)
        return weights
