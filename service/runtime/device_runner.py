"""The ModelRunner whose keys and values stay on a device: everything is bound there, and little crosses the bus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service import graph_names as names
from service.bundle import Bundle, Head
from service.engine import Batch, ModelLimits, RowCopy, StepOutput
from service.engine.greedy import SAMPLING_BEST
from service.errors import BundleError
from service.runtime.alignment import attention_weights
from service.runtime.device_memory import (
    CacheMemory,
    Device,
    PositionCopier,
    Vectors,
    copied_bytes,
    copy_groups,
    zeroed,
)
from service.runtime.memory import wide_blocks
from service.runtime.onnx_runner import Shape, model_limits
from service.runtime.sentences import SentenceMap
from service.runtime.sessions import Sessions
from service.runtime.settings import RuntimeSettings
from service.runtime.step_inputs import StepInputs
from service.runtime.step_shapes import StepShapes

FloatArray = npt.NDArray[np.float32]

_MAX_BINDINGS = 64


class DeviceRunner:
    """One worker's memory on `device` over sessions it may share with others; used from one thread.

    It answers as OnnxRunner does. The class knows no provider: on the device "cpu" it is tested against OnnxRunner bit
    for bit, on "cuda" the same bindings name memory of a GPU.
    """

    def __init__(self, bundle: Bundle, sessions: Sessions, settings: RuntimeSettings, device: Device) -> None:
        manifest = bundle.manifest
        if sessions.copy_positions is None:
            raise BundleError(f"{bundle.directory}: has no graph that copies on a device; export it again")
        self._manifest = manifest
        self._sessions = sessions
        self._device = device
        self._limits = limits = model_limits(manifest, settings)
        self._shapes = StepShapes(settings.mode, limits)
        self._map = SentenceMap(limits, all_places=self._shapes.all_places)
        self._copier = PositionCopier(sessions.copy_positions, device)
        rows, sources = limits.row_slots, limits.max_source_tokens
        self._dtype = sessions.cache_dtype
        self._own = self._cache(rows + 1, limits.max_output_tokens)  # the last is RowPool.spare
        self._narrow = self._cache(rows, sources)
        self._wide = self._cache(wide_blocks(rows), sources)
        self._read_out = zeroed(device, (1, 1, 1, sources, manifest.dimensions.head_size), self._dtype)
        self._inputs = StepInputs(limits, self._map, sessions.decoder, device)
        self._best_counts = np.arange(SAMPLING_BEST + 1, dtype=np.int64)
        self._top_ids = np.zeros(rows * SAMPLING_BEST, np.int64)
        self._top_log_probs = np.zeros(rows * SAMPLING_BEST, np.float32)
        self._queries = np.zeros((rows, manifest.alignment_query_size), np.float32)
        self._log_probs: FloatArray | None = None
        self._bindings: dict[tuple[Shape, int, int], ort.IOBinding] = {}

    @property
    def limits(self) -> ModelLimits:
        """Facts that do not change."""
        return self._limits

    def encode(self, sources: Sequence[npt.NDArray[np.int32]], slots: Sequence[int], lanes: Sequence[int]) -> None:
        """Encode `sources` and copy their cross keys/values into the slots' places, all on the device."""
        size = self._shapes.encoder_sentences(len(sources))
        for begin in range(0, len(sources), size):
            part = slice(begin, begin + size)
            self._encode(sources[part], slots[part], lanes[part], size)

    def release(self, slot: int) -> None:
        """Free what `encode` gave `slot`."""
        self._map.close(slot)

    def copy_rows(self, copies: Sequence[RowCopy]) -> int:
        """Copy self keys/values between rows; returns the bytes moved."""
        own = self._own
        for group in copy_groups(copies):
            sources = np.concatenate([own.vectors_of(copy.source, copy.begin, copy.end) for copy in group])
            targets = np.concatenate([own.vectors_of(copy.target, copy.begin, copy.end) for copy in group])
            self._copier.copy(Vectors(own, sources, own.every_plane), Vectors(own, targets, own.every_plane))
        self._inputs.copied(copies)
        return copied_bytes(own, copies)

    def decode_step(self, batch: Batch) -> StepOutput:
        """One Run over rows 0 to R-1 and what pads them, results in this runner's own host memory."""
        asked = len(batch.last_tokens)
        rows = self._shapes.rows(asked)
        self._map.arrange(batch.sentence_slots)
        shape = Shape(rows, self._map.narrow_count, self._map.wide_count, batch.best, batch.full_rows)
        bans, room = self._inputs.fill(batch, rows)
        self._sessions.decoder.run_with_iobinding(self._binding(shape, bans, room))
        best = (rows, batch.best)
        return StepOutput(
            top_ids=self._top_ids[: rows * batch.best].reshape(best)[:asked],
            top_log_probs=self._top_log_probs[: rows * batch.best].reshape(best)[:asked],
            log_probs=self._full_rows()[:asked] if batch.full_rows else None,
            alignment_queries=self._queries[:asked] if self._limits.has_alignments else None,
        )

    def align(self, slot: int, queries: FloatArray) -> FloatArray:
        """Weights of the manifest's alignment heads; their keys of this one sentence come to the host."""
        alignment = self._manifest.alignment
        if alignment is None:
            raise RuntimeError("alignments asked of a model that has none: this is a bug")
        narrow, wide = self._map.place_of(slot)
        if narrow is not None:
            memory, place, length = self._narrow, narrow, int(self._map.narrow_lengths[narrow])
        else:
            block = wide if wide is not None else 0
            memory, place, length = self._wide, block, int(self._map.wide_lengths[block])
        return attention_weights(queries, [self._keys_of(each, memory, place, length) for each in alignment.heads])

    def _keys_of(self, head: Head, memory: CacheMemory, place: int, length: int) -> npt.NDArray[np.generic]:
        """Fetch one head's keys (length, head) of one place."""
        starts = memory.vectors_of(place, 0, length, index=2 * head.layer, head=head.head)
        plane = self._copier.one_plane
        self._copier.copy(
            Vectors(memory, starts, plane), Vectors(self._read_out, self._read_out.vectors_of(0, 0, length), plane)
        )
        keys: npt.NDArray[np.generic] = self._read_out.value.numpy()[0, 0, 0, :length].copy()
        return keys

    def _cache(self, places: int, positions: int) -> CacheMemory:
        dimensions = self._manifest.dimensions
        shape = (2 * dimensions.decoder_layers, places, dimensions.heads, positions, dimensions.head_size)
        return zeroed(self._device, shape, self._dtype)

    def _encode(
        self, sources: Sequence[npt.NDArray[np.int32]], slots: Sequence[int], lanes: Sequence[int], size: int
    ) -> None:
        """One run of the encoder over `size` sentences, those beyond `sources` one <pad> long."""
        lengths = np.ones(size, np.int32)
        lengths[: len(sources)] = [len(source) for source in sources]
        ids = np.full((size, self._shapes.encoder_width(int(lengths.max()))), self._limits.pad_id, np.int64)
        for row, source in enumerate(sources):
            ids[row, : len(source)] = source
        cross = self._cross_of(ids, lengths)
        narrow_moves: list[tuple[int, int, int]] = []
        wide_moves: list[tuple[int, int, int]] = []
        for index, (slot, count) in enumerate(zip(slots, lanes, strict=True)):
            length = len(sources[index])
            narrow, wide = self._map.open(slot, lanes=count, length=length)
            narrow_moves += [(index, place, length) for place in narrow]
            wide_moves += [(index, block, length) for block in wide]
        self._place(cross, self._narrow, narrow_moves)
        self._place(cross, self._wide, wide_moves)

    def _cross_of(self, ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32]) -> CacheMemory:
        """Run the encoder; its result stays on the device."""
        binding = self._sessions.encoder.io_binding()
        held = {names.INPUT_IDS: self._device.hold(ids), names.LENGTHS: self._device.hold(lengths)}
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(names.CROSS, self._device.kind, self._device.number)
        self._sessions.encoder.run_with_iobinding(binding)
        return CacheMemory(binding.get_outputs()[0], self._device, item_bytes=self._dtype.itemsize)

    def _place(self, cross: CacheMemory, memory: CacheMemory, moves: Sequence[tuple[int, int, int]]) -> None:
        """Copy keys and values of (sentence of `cross`, place of `memory`, length) triples."""
        if not moves:
            return
        sources = np.concatenate([cross.vectors_of(index, 0, length) for index, _, length in moves])
        targets = np.concatenate([memory.vectors_of(place, 0, length) for _, place, length in moves])
        self._copier.copy(Vectors(cross, sources, cross.every_plane), Vectors(memory, targets, memory.every_plane))

    def _full_rows(self) -> FloatArray:
        if self._log_probs is None:
            shape = (self._limits.row_slots, self._manifest.dimensions.padded_vocabulary_size)
            self._log_probs = np.zeros(shape, np.float32)
        return self._log_probs

    def _binding(self, shape: Shape, bans: int, room: int) -> ort.IOBinding:
        binding = self._bindings.pop((shape, bans, room), None) or self._bind(shape, bans)
        self._bindings[shape, bans, room] = binding
        if len(self._bindings) > _MAX_BINDINGS:
            del self._bindings[next(iter(self._bindings))]
        return binding

    def _bind(self, shape: Shape, bans: int) -> ort.IOBinding:
        """Bind every input and output for steps of `shape`: caches and small inputs on the device, results here."""
        binding = self._sessions.decoder.io_binding()
        self._inputs.bind(binding, shape, bans)
        k = self._best_counts[shape.best : shape.best + 1]
        binding.bind_input(names.K, "cpu", 0, np.int64, k.shape, k.ctypes.data)
        self._bind_caches(binding, shape)
        self._bind_results(binding, shape)
        return binding

    def _bind_caches(self, binding: ort.IOBinding, shape: Shape) -> None:
        """Bind keys and values of each layer; the rows' own are input and output at the same address."""
        layers = self._manifest.dimensions.decoder_layers
        bound = [
            (binding.bind_input, names.self_caches(layers), self._own, shape.rows),
            (binding.bind_output, names.self_caches_out(layers), self._own, shape.rows),
            (binding.bind_input, names.narrow_cross(layers), self._narrow, shape.narrow),
            (binding.bind_input, names.wide_cross(layers), self._wide, shape.wide),
        ]
        if self._dtype == np.int8:
            bound.append((binding.bind_output, names.narrow_cross_out(layers), self._narrow, shape.narrow))
            bound.append((binding.bind_output, names.wide_cross_out(layers), self._wide, shape.wide))
        dimensions, device = self._manifest.dimensions, self._device
        for bind, layer_names, memory, count in bound:
            size = (count, dimensions.heads, memory.positions, dimensions.head_size)
            for index, name in enumerate(layer_names):
                bind(name, device.kind, device.number, self._dtype.type, size, memory.pointer(index))

    def _bind_results(self, binding: ort.IOBinding, shape: Shape) -> None:
        """Bind what the search reads to host memory."""
        results: dict[str, npt.NDArray[np.generic]] = {
            names.TOP_IDS: self._top_ids[: shape.rows * shape.best].reshape(shape.rows, shape.best),
            names.TOP_LOG_PROBS: self._top_log_probs[: shape.rows * shape.best].reshape(shape.rows, shape.best),
        }
        if self._limits.has_alignments:
            results[names.ALIGNMENT_QUERY] = self._queries[: shape.rows]
        if shape.full_rows:
            results[names.LOG_PROBS] = self._full_rows()[: shape.rows]
        for name, array in results.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
