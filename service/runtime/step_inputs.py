"""The small inputs of a decode step on a device, and rows that pad it without touching what others keep."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service import graph_names as names
from service.engine import Batch, ModelLimits, RowCopy
from service.runtime.device_memory import Device
from service.runtime.onnx_runner import Shape
from service.runtime.sentences import SentenceMap
from service.runtime.staged_inputs import StagedInputs


class StepInputs:
    """Fills the inputs of steps and binds them.

    A step may run over more rows than it was asked for. Such a row writes one position of its own memory, and the
    memory may be that of a row which only sits this step out. It therefore writes at `_held`, a position at or behind
    the end of whatever the memory holds: its owner overwrites that before it ever reads it.
    """

    def __init__(self, limits: ModelLimits, places: SentenceMap, session: ort.InferenceSession, device: Device) -> None:
        self._limits = limits
        self._places = places
        self._device = device
        self._held = np.zeros(limits.row_slots + 1, np.int32)
        self._ban_slots = 1
        self._staged = self._stage()
        infos = zip(session.get_inputs(), session.get_input_memory_infos(), strict=True)
        self._on_host = {node.name for node, info in infos if info.name.lower() != device.kind}
        self._picks_full_rows = any(node.name == names.FULL_ROWS for node in session.get_inputs())

    def copied(self, copies: Iterable[RowCopy]) -> None:
        """Take note of positions that rows have got from others."""
        for copy in copies:
            self._held[copy.target] = max(self._held[copy.target], copy.end)

    def fill(self, batch: Batch, rows: int) -> tuple[int, int]:
        """Send the inputs of a step over `rows` rows, of which `batch` wants the first, to the device.

        Returns the bans bound, and how many there is room for: with more room the inputs lie elsewhere.
        """
        asked, places = len(batch.last_tokens), self._places
        each = 1 << (len(batch.bans) // asked - 1).bit_length()
        bans = rows * each
        self._make_room_for_bans(bans)
        fields = self._staged.arrays
        fields[names.INPUT_IDS][:asked] = batch.last_tokens
        fields[names.INPUT_IDS][asked:rows] = self._limits.start_id
        fields[names.PAST_LENGTHS][:asked] = batch.past_lengths
        fields[names.PAST_LENGTHS][asked:rows] = np.minimum(self._held[asked:rows], self._limits.max_output_tokens - 1)
        fields[names.LANE][:asked] = places.lane[:asked]
        fields[names.LANE][asked:rows] = 0
        fields[names.NARROW_ROWS][:] = places.narrow_rows
        fields[names.NARROW_LENGTHS][:] = places.narrow_lengths
        fields[names.WIDE_ROWS][:] = places.wide_rows
        fields[names.WIDE_LENGTHS][:] = places.wide_lengths
        banned = fields[names.BANS][:bans].reshape(rows, each, 2)
        banned[:, :, 0] = np.arange(rows)[:, None]
        banned[:, :, 1] = self._limits.pad_id
        banned[:asked, : len(batch.bans) // asked, 1] = batch.bans[:, 1].reshape(asked, -1)
        fields[names.FULL_ROWS][:] = np.arange(self._limits.row_slots)
        self._held[:asked] = batch.past_lengths + 1
        self._staged.send()
        return bans, self._ban_slots

    def bind(self, binding: ort.IOBinding, shape: Shape, bans: int) -> None:
        """Bind what `fill` fills, each input where the graph wants it."""
        counts = {
            names.INPUT_IDS: shape.rows,
            names.PAST_LENGTHS: shape.rows,
            names.NARROW_ROWS: shape.narrow,
            names.NARROW_LENGTHS: shape.narrow,
            names.WIDE_ROWS: shape.wide,
            names.WIDE_LENGTHS: shape.wide,
            names.LANE: shape.rows,
            names.BANS: bans,
        }
        if self._picks_full_rows:
            counts[names.FULL_ROWS] = shape.rows if shape.full_rows else 0
        device = self._device
        for name, count in counts.items():
            array: npt.NDArray[np.generic] = self._staged.arrays[name][:count]
            if name in self._on_host:
                binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            else:
                pointer = self._staged.pointer(name)
                binding.bind_input(name, device.kind, device.number, array.dtype.type, array.shape, pointer)

    def _make_room_for_bans(self, wanted: int) -> None:
        """Take a larger block where `wanted` bans need one."""
        if wanted > self._ban_slots:
            self._ban_slots = 1 << (wanted - 1).bit_length()
            self._staged = self._stage()

    def _stage(self) -> StagedInputs:
        rows, blocks = self._limits.row_slots, len(self._places.wide_lengths)
        return StagedInputs(
            {
                names.INPUT_IDS: (np.int64, (rows,)),
                names.PAST_LENGTHS: (np.int32, (rows,)),
                names.NARROW_ROWS: (np.int64, (rows,)),
                names.NARROW_LENGTHS: (np.int32, (rows,)),
                names.WIDE_ROWS: (np.int64, (blocks, names.LANES)),
                names.WIDE_LENGTHS: (np.int32, (blocks,)),
                names.LANE: (np.int64, (rows,)),
                names.BANS: (np.int64, (self._ban_slots, 2)),
                names.FULL_ROWS: (np.int64, (rows,)),
            },
            self._device,
        )
