"""Tokens that may not be chosen next: the sparse (row, token) bans a decode step applies before it selects."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from service.engine.rows import RowTable
from service.engine.runner import ModelLimits, RowArray
from service.engine.sequence import IntArray, Sequence


class LogitFilter:
    """Bans <pad> everywhere, EOS before the minimum length, and tokens that would repeat an n-gram."""

    def __init__(self, limits: ModelLimits) -> None:
        self._eos_id = limits.eos_id
        self._always: RowArray = np.stack(
            [np.arange(limits.row_slots), np.full(limits.row_slots, limits.pad_id)], axis=1
        ).astype(np.int64)

    def bans(self, table: RowTable, running: Iterable[Sequence], rows: int) -> RowArray:
        """Bans (B, 2) of (row, token id) for a step over rows 0 to `rows`-1: row by row, equally many for each.

        <pad> is banned everywhere, again and again where another row has more bans.
        """
        extra: dict[int, list[int]] = {}
        for sequence in running:
            options = sequence.options
            if options.min_output_tokens or options.no_repeat_ngram_size:
                for row in sequence.rows.tolist():
                    history = table.tokens[row, : table.lengths[row]]
                    if len(history) + 1 < options.min_output_tokens:
                        extra.setdefault(row, []).append(self._eos_id)
                    if options.no_repeat_ngram_size:
                        extra.setdefault(row, []).extend(repeated(history, options.no_repeat_ngram_size))
        if not extra:
            return self._always[:rows]
        each = 1 + max(map(len, extra.values()))
        bans = np.repeat(self._always[:rows], each, axis=0)
        for row, tokens in extra.items():
            bans[row * each : row * each + len(tokens), 1] = tokens
        return bans


def repeated(history: IntArray, size: int) -> list[int]:
    """Tokens that after `history` would complete an n-gram of `size` tokens which `history` already holds."""
    if len(history) < size:
        return []
    if size == 1:
        return sorted(set(history.tolist()))
    windows = np.lib.stride_tricks.sliding_window_view(history, size)
    matches = (windows[:, :-1] == history[len(history) - size + 1 :]).all(axis=1)
    return sorted(set(windows[matches, -1].tolist()))
