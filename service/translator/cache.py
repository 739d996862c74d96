"""Past decodings by what determines them, bounded in bytes; the least recently used leaves first."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from cachetools import LRUCache

from service.engine import DecodingOptions, DecodingResult, Hypothesis, Timings

# What CPython takes, rather too much than too little: an int or float in a tuple, and the objects around them.
_INT_BYTES, _FLOAT_BYTES, _ENTRY_BYTES, _HYPOTHESIS_BYTES = 36, 32, 1500, 400
_NO_TIME = Timings(queue_seconds=0.0, encode_seconds=0.0, decode_seconds=0.0, first_token_seconds=0.0, steps=0)


@dataclass(frozen=True, slots=True)
class DecodingKey:
    """All that a repeatable decoding depends on; `model` is its id and the hash of its content."""

    model: tuple[str, str]
    options: DecodingOptions
    source_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    result: DecodingResult
    size: int


class DecodingCache:
    """Results by key, together at most `max_bytes`; safe from any thread."""

    def __init__(self, *, max_bytes: int) -> None:
        self._entries: LRUCache[DecodingKey, _Entry] = LRUCache(max_bytes, getsizeof=lambda entry: entry.size)
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """What the entries take, estimated from above."""
        with self._lock:
            return int(self._entries.currsize)

    def get(self, key: DecodingKey) -> DecodingResult | None:
        """The result, its timings zero as nothing was decoded; None if it is not here."""
        with self._lock:
            entry = self._entries.get(key)
        return None if entry is None else replace(entry.result, timings=_NO_TIME)

    def put(self, key: DecodingKey, result: DecodingResult) -> None:
        """Keep `result`, unless it alone is larger than the cache."""
        kept = replace(result, hypotheses=tuple(map(_compact, result.hypotheses)))
        size = _ENTRY_BYTES + _INT_BYTES * len(key.source_ids) + sum(map(_size, kept.hypotheses))
        with self._lock:
            if size <= self._entries.maxsize:
                self._entries[key] = _Entry(kept, size)


def _compact(hypothesis: Hypothesis) -> Hypothesis:
    """Without a larger array behind its alignment."""
    alignment = hypothesis.alignment
    return (
        hypothesis if alignment is None or alignment.base is None else replace(hypothesis, alignment=alignment.copy())
    )


def _size(hypothesis: Hypothesis) -> int:
    floats = len(hypothesis.token_scores or ())
    array = 0 if hypothesis.alignment is None else hypothesis.alignment.nbytes
    return _HYPOTHESIS_BYTES + _INT_BYTES * len(hypothesis.ids) + _FLOAT_BYTES * floats + array
