"""Runs the two graphs of an export directly in ONNX Runtime, rows and sentences laid out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from exporter.model_config import ModelConfig
from service import graph_names as names

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
GARBAGE = {"float32": 7e3, "int8": 77}
"""What fills caches beyond their lengths: it must never show."""


def open_graph(path: Path, *, threads: int) -> ort.InferenceSession:
    """Open a graph as the runtime does."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(path, options, providers=providers, disabled_optimizers=["SkipLayerNormFusion"])


@dataclass(frozen=True, slots=True)
class Rows:
    """State of some rows: last tokens, past lengths, self caches (2L tensors), source lengths, cross caches (2L)."""

    tokens: npt.NDArray[np.int64]
    past: npt.NDArray[np.int32]
    caches: list[Array]
    source_lengths: npt.NDArray[np.int32]
    cross: list[Array]


def random_rows(
    config: ModelConfig, count: int, *, longest_past: int, longest_source: int, seed: int, int8: bool = False
) -> Rows:
    """Rows with every length different from its neighbour's, each with a sentence of its own."""
    generator = np.random.default_rng(seed)
    heads, size, layers = config.heads, config.head_size, config.decoder_layers

    def caches(capacity: int) -> list[Array]:
        shape = (count, heads, capacity, size)
        if int8:
            return [generator.integers(-127, 128, shape).astype(np.int8) for _ in range(2 * layers)]
        return [generator.standard_normal(shape).astype(np.float32) for _ in range(2 * layers)]

    return Rows(
        generator.integers(3, config.target_vocabulary_size, count),
        generator.integers(0, longest_past, count).astype(np.int32),
        caches(longest_past + 1),
        generator.integers(1, longest_source + 1, count).astype(np.int32),
        caches(longest_source),
    )


def resized(cache: Array, capacity: int, lengths: npt.NDArray[np.int32]) -> Array:
    """Copy a cache into another capacity; what lies beyond each row's length is garbage."""
    shape = (*cache.shape[:2], capacity, cache.shape[3])
    copy = np.full(shape, GARBAGE[cache.dtype.name], cache.dtype)
    for row, length in enumerate(lengths):
        copy[row, :, :length] = cache[row, :, :length]
    return copy


def row_by_row(bans: Sequence[tuple[int, int]], rows: int) -> npt.NDArray[np.int64]:
    """Bans with <pad> (id 0) added, equally many for each row."""
    tokens = [[token for banned, token in bans if banned == row] for row in range(rows)]
    each = 1 + max(map(len, tokens))
    filled = [[*those, *[0] * (each - len(those))] for those in tokens]
    return np.array([(row, token) for row, those in enumerate(filled) for token in those], np.int64)


def step(
    decoder: ort.InferenceSession,
    state: Rows,
    rows: Sequence[int],
    *,
    wide: Sequence[int] = (),
    capacity: int = 40,
    source_capacity: int = 40,
    k: int = 1,
    bans: Sequence[tuple[int, int]] | None = None,
) -> dict[str, Array]:
    """Run one decode step over ``rows`` of ``state``; those in ``wide`` sit alone in a wide sentence, on any lane."""
    layers = len(state.cross) // 2
    narrow_at = [place for place, row in enumerate(rows) if row not in wide]
    wide_at = [place for place, row in enumerate(rows) if row in wide]
    lane = np.zeros(len(rows), np.int64)
    lane[narrow_at] = np.arange(len(narrow_at))
    narrow_count = max(1, len(narrow_at))
    blocks = np.zeros((max(1, len(wide_at)), names.LANES), np.int64)
    for block, place in enumerate(wide_at):
        blocks[block, rows[place] % names.LANES] = place
        lane[place] = narrow_count + names.LANES * block + rows[place] % names.LANES
    chosen = np.array(rows)
    feeds: dict[str, Array] = {
        names.INPUT_IDS: state.tokens[chosen],
        names.PAST_LENGTHS: state.past[chosen],
        names.LANE: lane,
        names.BANS: row_by_row(bans or [], len(rows)),
        names.K: np.array([k]),
        names.FULL_ROWS: np.arange(len(rows)),
        names.NARROW_ROWS: np.array(narrow_at or [0], np.int64),
        names.WIDE_ROWS: blocks,
    }
    own = [resized(cache[chosen], capacity, state.past[chosen]) for cache in state.caches]
    feeds.update(zip(names.self_caches(layers), own, strict=True))
    kinds = (
        (names.NARROW_LENGTHS, names.narrow_cross(layers), narrow_at),
        (names.WIDE_LENGTHS, names.wide_cross(layers), wide_at),
    )
    for lengths_name, cache_names, places in kinds:
        sentences = chosen[places] if places else np.array([rows[0]])
        lengths = state.source_lengths[sentences] if places else np.ones(1, np.int32)
        feeds[lengths_name] = lengths
        cross = [resized(cache[sentences], source_capacity, lengths) for cache in state.cross]
        feeds.update(zip(cache_names, cross, strict=True))
    outputs = [output.name for output in decoder.get_outputs()]
    return dict(zip(outputs, decoder.run(outputs, feeds), strict=True))
