"""The ModelRunner on ONNX Runtime's CPU provider: ragged key/value memory, bound in place, one Run per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service import graph_names as names
from service.bundle import Bundle, Manifest
from service.engine import Batch, ModelLimits, RowCopy, StepOutput
from service.engine.greedy import SAMPLING_BEST
from service.runtime.alignment import attention_weights
from service.runtime.memory import wide_blocks
from service.runtime.sentences import SentenceMap
from service.runtime.sessions import Sessions
from service.runtime.settings import RuntimeSettings

FloatArray = npt.NDArray[np.float32]
AnyArray = npt.NDArray[np.generic]

_MAX_BINDINGS = 64
"""Bindings kept, the least recently used dropped first: making one takes about as long as a tenth of a step."""


LONE_ROWS = 8
"""So few are faster on one worker with the threads of all; see "Threads in a worker" in docs/performance.md."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a binding was made for: rows, narrow places, wide blocks, best tokens, whole rows or not, which decoder."""

    rows: int
    narrow: int
    wide: int
    best: int
    full_rows: bool
    lone: bool = False


class OnnxRunner:
    """One worker's memory over sessions it may share with others; used from one thread.

    Keys and values are float32 or int8, as the graphs want them: `_own` (2 x layers, rows, heads, max_output_tokens,
    head), `_narrow` and `_wide` (2 x layers, places, heads, max_source_tokens, head). Index 2l holds keys of decoder
    layer l, 2l + 1 its values. A step reads only the valid prefix of each row, so the rest may hold anything.
    """

    def __init__(self, bundle: Bundle, sessions: Sessions, settings: RuntimeSettings) -> None:
        manifest = bundle.manifest
        self._manifest = manifest
        self._sessions = sessions
        self._limits = model_limits(manifest, settings)
        self._map = SentenceMap(self._limits)
        rows, sources = self._limits.row_slots, self._limits.max_source_tokens
        self._own = self._cache(rows + 1, self._limits.max_output_tokens)  # the last is RowPool.spare
        self._narrow = self._cache(rows, sources)
        self._wide = self._cache(wide_blocks(rows), sources)
        self._last_tokens = np.zeros(rows, np.int64)
        self._past_lengths = np.zeros(rows, np.int32)
        self._bans = np.zeros((rows, 2), np.int64)
        self._best_counts = np.arange(SAMPLING_BEST + 1, dtype=np.int64)
        self._every_row = np.arange(rows, dtype=np.int64)
        self._top_ids = np.zeros(rows * SAMPLING_BEST, np.int64)
        self._top_log_probs = np.zeros(rows * SAMPLING_BEST, np.float32)
        self._queries = np.zeros((rows, manifest.alignment_query_size), np.float32)
        self._log_probs: FloatArray | None = None
        self._bindings: dict[Shape, ort.IOBinding] = {}

    @property
    def limits(self) -> ModelLimits:
        """Facts that do not change."""
        return self._limits

    def encode(self, sources: Sequence[npt.NDArray[np.int32]], slots: Sequence[int], lanes: Sequence[int]) -> None:
        """Encode `sources` as one padded batch and copy their cross keys/values into the slots' places."""
        lengths = np.array([len(source) for source in sources], np.int32)
        ids = np.full((len(sources), int(lengths.max())), self._limits.pad_id, np.int64)
        for row, source in enumerate(sources):
            ids[row, : len(source)] = source
        feeds = {names.INPUT_IDS: ids, names.LENGTHS: lengths}
        cross: AnyArray = self._sessions.encoder.run([names.CROSS], feeds)[0]
        for index, (slot, count) in enumerate(zip(slots, lanes, strict=True)):
            length = len(sources[index])
            narrow, wide = self._map.open(slot, lanes=count, length=length)
            for place in narrow:
                self._narrow[:, place, :, :length] = cross[:, index, :, :length]
            for block in wide:
                self._wide[:, block, :, :length] = cross[:, index, :, :length]

    def release(self, slot: int) -> None:
        """Free what `encode` gave `slot`."""
        self._map.close(slot)

    def copy_rows(self, copies: Sequence[RowCopy]) -> int:
        """Copy self keys/values between rows; returns the bytes moved."""
        positions = 0
        for copy in copies:
            span = slice(copy.begin, copy.end)
            self._own[:, copy.target, :, span] = self._own[:, copy.source, :, span]
            positions += copy.end - copy.begin
        return positions * self._own[:, 0, :, 0].nbytes

    def decode_step(self, batch: Batch) -> StepOutput:
        """One Run over rows 0 to R-1, results in this runner's own arrays."""
        rows = len(batch.last_tokens)
        self._last_tokens[:rows] = batch.last_tokens
        self._past_lengths[:rows] = batch.past_lengths
        self._map.arrange(batch.sentence_slots)
        lone = batch.alone and self._sessions.lone_decoder is not None
        shape = Shape(rows, self._map.narrow_count, self._map.wide_count, batch.best, batch.full_rows, lone)
        binding = self._binding(shape)
        usual = len(batch.bans) == rows
        if usual:
            self._bans[:rows] = batch.bans
        else:
            _bind_input(binding, names.BANS, batch.bans)
        try:
            self._decoder(shape).run_with_iobinding(binding)
        finally:
            if not usual:  # the binding is kept and the batch's own array is not, even when the step fails
                _bind_input(binding, names.BANS, self._bans[:rows])
        best = (rows, batch.best)
        return StepOutput(
            top_ids=self._top_ids[: rows * batch.best].reshape(best),
            top_log_probs=self._top_log_probs[: rows * batch.best].reshape(best),
            log_probs=self._full_rows()[:rows] if batch.full_rows else None,
            alignment_queries=self._queries[:rows] if self._limits.has_alignments else None,
        )

    def align(self, slot: int, queries: FloatArray) -> FloatArray:
        """Attention of the manifest's alignment heads over the sentence in `slot`, see `attention_weights`."""
        alignment = self._manifest.alignment
        if alignment is None:
            raise RuntimeError("alignments asked of a model that has none: this is a bug")
        narrow, wide = self._map.place_of(slot)
        if narrow is not None:
            cached = self._narrow[:, narrow, :, : self._map.narrow_lengths[narrow]]
        else:
            cached = self._wide[:, wide, :, : self._map.wide_lengths[wide]]
        return attention_weights(queries, [cached[2 * each.layer, each.head] for each in alignment.heads])

    def _cache(self, places: int, positions: int) -> AnyArray:
        """Zeroed, as what lies beyond a row's length must be a number; the system gives pages as they are touched."""
        dimensions = self._manifest.dimensions
        shape = (2 * dimensions.decoder_layers, places, dimensions.heads, positions, dimensions.head_size)
        return np.zeros(shape, self._sessions.cache_dtype)

    def _full_rows(self) -> FloatArray:
        if self._log_probs is None:
            shape = (self._limits.row_slots, self._manifest.dimensions.padded_vocabulary_size)
            self._log_probs = np.zeros(shape, np.float32)
        return self._log_probs

    def _decoder(self, shape: Shape) -> ort.InferenceSession:
        lone = self._sessions.lone_decoder
        return lone if shape.lone and lone is not None else self._sessions.decoder

    def _binding(self, shape: Shape) -> ort.IOBinding:
        binding = self._bindings.pop(shape, None) or self._bind(shape)
        self._bindings[shape] = binding
        if len(self._bindings) > _MAX_BINDINGS:
            del self._bindings[next(iter(self._bindings))]
        return binding

    def _bind(self, shape: Shape) -> ort.IOBinding:
        """Bind every input and output to this runner's memory, for steps of `shape` with one ban a row."""
        layers = self._manifest.dimensions.decoder_layers
        places = self._map
        binding = self._decoder(shape).io_binding()
        inputs: dict[str, AnyArray] = {
            names.INPUT_IDS: self._last_tokens[: shape.rows],
            names.PAST_LENGTHS: self._past_lengths[: shape.rows],
            names.NARROW_ROWS: places.narrow_rows[: shape.narrow],
            names.NARROW_LENGTHS: places.narrow_lengths[: shape.narrow],
            names.WIDE_ROWS: places.wide_rows[: shape.wide],
            names.WIDE_LENGTHS: places.wide_lengths[: shape.wide],
            names.LANE: places.lane[: shape.rows],
            names.BANS: self._bans[: shape.rows],
            names.K: self._best_counts[shape.best : shape.best + 1],
            **_layers(names.self_caches(layers), self._own, shape.rows),
            **_layers(names.narrow_cross(layers), self._narrow, shape.narrow),
            **_layers(names.wide_cross(layers), self._wide, shape.wide),
        }
        if self._sessions.picks_full_rows:
            inputs[names.FULL_ROWS] = self._every_row[: shape.rows if shape.full_rows else 0]
        outputs: dict[str, AnyArray] = {
            names.TOP_IDS: self._top_ids[: shape.rows * shape.best].reshape(shape.rows, shape.best),
            names.TOP_LOG_PROBS: self._top_log_probs[: shape.rows * shape.best].reshape(shape.rows, shape.best),
            **_layers(names.self_caches_out(layers), self._own, shape.rows),
        }
        if self._sessions.cache_dtype == np.int8:
            outputs |= _layers(names.narrow_cross_out(layers), self._narrow, shape.narrow)
            outputs |= _layers(names.wide_cross_out(layers), self._wide, shape.wide)
        if self._limits.has_alignments:
            outputs[names.ALIGNMENT_QUERY] = self._queries[: shape.rows]
        if shape.full_rows:
            outputs[names.LOG_PROBS] = self._full_rows()[: shape.rows]
        for name, array in inputs.items():
            _bind_input(binding, name, array)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding


def model_limits(manifest: Manifest, settings: RuntimeSettings) -> ModelLimits:
    """What the engine must know of a model in the memory that `settings` give it."""
    special = manifest.special_ids
    return ModelLimits(
        row_slots=settings.row_slots,
        sentence_slots=settings.row_slots,
        max_source_tokens=min(settings.max_source_tokens, manifest.max_source_tokens),
        max_output_tokens=min(settings.max_output_tokens, manifest.max_target_tokens),
        source_vocabulary_size=manifest.dimensions.source_vocabulary_size,
        vocabulary_size=manifest.dimensions.vocabulary_size,
        start_id=special.decoder_start,
        eos_id=special.eos,
        pad_id=special.pad,
        has_alignments=manifest.alignment is not None,
        lone_rows=min(LONE_ROWS, settings.row_slots) if settings.has_lone_decoder else 0,
    )


def _layers(layer_names: list[str], cache: AnyArray, count: int) -> dict[str, AnyArray]:
    return {name: cache[index, :count] for index, name in enumerate(layer_names)}


def _bind_input(binding: ort.IOBinding, name: str, array: AnyArray) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
