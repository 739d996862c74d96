"""A ModelRunner that sleeps where a model would compute, and says words of its vocabulary instead of a translation."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import replace

import numpy as np

from loadtests.sleeping_server.step_times import StepTimes
from service.bundle import Bundle
from service.engine import Batch, ModelLimits, ModelRunner, RowCopy, StepOutput
from service.engine.sequence import FloatArray, IntArray
from service.errors import ConfigError
from service.runtime import RuntimeSettings
from service.runtime.onnx_runner import model_limits
from service.tokenizer import Tokenizer

WORD = re.compile("\u2581[a-z]{2,4}")
SHORTEST, LONGEST = 0.7, 1.3
"""Target tokens per source token, drawn between these from a hash of the source."""
BEST_LOG_PROB, NEXT_LOG_PROB = -0.1, -3.0


class SleepingRunner:
    """Greedy search, sampling and beams end after a number of steps that the source alone decides.

    Every row of a sentence is offered the same words, those of its source and position. A step takes what `times` say
    for its number of rows, less what this runner's own arithmetic took, without using the processor.
    """

    def __init__(
        self, limits: ModelLimits, words: Many[int], times: StepTimes, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._limits = limits
        self._words = np.array(words, np.int64)
        self._times = times
        self._sleep = sleep
        self._first_words = np.zeros(limits.sentence_slots, np.int64)
        self._steps = np.ones(limits.sentence_slots, np.int64)

    @property
    def limits(self) -> ModelLimits:
        """Facts that do not change."""
        return self._limits

    def encode(self, sources: Many[IntArray], slots: Many[int], lanes: Many[int]) -> None:
        """Decide for each source how long its translation is and with which word it begins, then sleep."""
        started = time.perf_counter()
        for source, slot in zip(sources, slots, strict=True):
            mark = zlib.crc32(source.tobytes())
            share = SHORTEST + (LONGEST - SHORTEST) * mark / 2**32
            self._first_words[slot] = mark % len(self._words)
            self._steps[slot] = max(2, round(share * len(source)))
        self._rest(started, self._times.encode.at(max(map(len, sources)) * len(sources)))

    def release(self, slot: int) -> None:
        """Nothing is held."""

    def copy_rows(self, copies: Many[RowCopy]) -> int:
        """Nothing is kept by row."""
        return 0

    def decode_step(self, batch: Batch) -> StepOutput:
        """The next words of every row, EOS the best one where its translation ends; then sleep."""
        started = time.perf_counter()
        rows = len(batch.last_tokens)
        slots, past = batch.sentence_slots, batch.past_lengths
        banned = batch.bans[batch.bans[:, 1] != self._limits.pad_id]  # <pad> is never offered
        offered = np.arange(batch.best + len(banned))
        ids = self._words[(self._first_words[slots] + past)[:, None] % len(self._words) - offered]
        ids[past + 1 >= self._steps[slots], 0] = self._limits.eos_id
        log_probs = np.tile((BEST_LOG_PROB + NEXT_LOG_PROB * offered).astype(np.float32), (rows, 1))
        if len(banned):
            for row, token in banned.tolist():
                log_probs[row, ids[row] == token] = -np.inf
            order = np.argsort(-log_probs, axis=1, kind="stable")[:, : batch.best]
            ids, log_probs = np.take_along_axis(ids, order, axis=1), np.take_along_axis(log_probs, order, axis=1)
        output = StepOutput(
            top_ids=ids,
            top_log_probs=log_probs,
            log_probs=self._whole_rows(ids, log_probs) if batch.full_rows else None,
            alignment_queries=None,
        )
        self._rest(started, self._times.step.at(rows))
        return output

    def align(self, slot: int, queries: FloatArray) -> FloatArray:
        """No head aligns here, and the engine knows it."""
        raise NotImplementedError("has_alignments is False: this is a bug")

    def _whole_rows(self, ids: IntArray, log_probs: FloatArray) -> FloatArray:
        whole: FloatArray = np.full((len(ids), self._limits.vocabulary_size), -1e3, np.float32)
        np.put_along_axis(whole, ids, log_probs, axis=1)
        return whole

    def _rest(self, started: float, seconds: float) -> None:
        left = seconds - (time.perf_counter() - started)
        if left > 0:
            self._sleep(left)


def sleeping_runners(bundle: Bundle, settings: RuntimeSettings, times: StepTimes) -> list[ModelRunner]:
    """A runner for each worker, with the limits that the bundle's model would have. Raises ConfigError."""
    tokenizer = Tokenizer.load(bundle.directory)
    size = tokenizer.target_vocabulary_size
    words = [index for index in range(size) if WORD.fullmatch(tokenizer.target_piece(index))]
    limits = replace(model_limits(bundle.manifest, settings), has_alignments=False)
    if len(words) < limits.max_output_tokens:
        raise ConfigError(f"{bundle.directory}: its vocabulary has too few short words for a runner that only sleeps")
    return [SleepingRunner(limits, words, times) for _ in range(settings.workers)]
