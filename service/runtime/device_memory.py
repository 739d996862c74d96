"""Keys and values in a device's own memory, and the graph that moves them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service import graph_names as names
from service.engine import RowCopy
from service.errors import ConfigError
from service.runtime.settings import Provider

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where memory lies: the main memory, or a GPU by its number."""

    kind: Provider
    number: int = 0

    def hold(self, array: npt.NDArray[np.generic]) -> ort.OrtValue:
        """`array` in this device's memory; on the CPU the very same memory, else a copy."""
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.kind, self.number)


class CacheMemory:
    """Keys and values (2 x layers, places, heads, positions, head) in one piece of a device's memory.

    A vector is one position of one head. Index 2l holds keys of decoder layer l, 2l + 1 its values. A plane is one head
    of one such index: adding a plane's offset to the first plane's vector gives the same position in that plane.
    """

    def __init__(self, value: ort.OrtValue, device: Device, *, item_bytes: int) -> None:
        shape: list[int] = value.shape()
        indices, self.places, heads, self.positions, head_size = shape
        self.value = value
        self.vector_bytes = head_size * item_bytes
        if self.vector_bytes % names.COPY_WORD_BYTES:
            raise ConfigError(f"heads of {self.vector_bytes} bytes cannot be moved in words of {names.COPY_WORD_BYTES}")
        self.vectors = indices * self.places * heads * self.positions
        self._vectors_per_place = heads * self.positions
        self._index_bytes = self.places * self._vectors_per_place * self.vector_bytes
        index, head = np.arange(indices)[:, None], np.arange(heads)[None, :]
        self._planes = (index * self.places * self._vectors_per_place + head * self.positions).astype(np.int64)
        self.every_plane = device.hold(self._planes.ravel())

    @property
    def planes(self) -> int:
        """How many vectors hold one position: heads of keys and values of all layers."""
        return self._planes.size

    def pointer(self, index: int) -> int:
        """Address of the keys or values of one layer."""
        return int(self.value.data_ptr()) + index * self._index_bytes

    def vectors_of(self, place: int, begin: int, end: int, *, index: int = 0, head: int = 0) -> IntArray:
        """Vectors of positions [begin, end) of `place`, in the plane of `index` and `head`."""
        first = int(self._planes[index, head]) + place * self._vectors_per_place
        return np.arange(first + begin, first + end, dtype=np.int64)


def zeroed(device: Device, shape: tuple[int, ...], dtype: npt.DTypeLike) -> CacheMemory:
    """Memory in which even what no row has written is a number."""
    array = np.zeros(shape, dtype)
    return CacheMemory(device.hold(array), device, item_bytes=array.itemsize)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Some positions of a memory by their vectors in the first plane, and the offsets of the planes that are meant."""

    memory: CacheMemory
    starts: IntArray
    planes: ort.OrtValue


class PositionCopier:
    """Runs the copy graph of a bundle; nothing passes through the host but the numbers that say what to copy."""

    def __init__(self, session: ort.InferenceSession, device: Device) -> None:
        self._session = session
        self._device = device
        self.one_plane = device.hold(np.zeros(1, np.int64))

    def copy(self, source: Vectors, target: Vectors) -> None:
        """Copy `source` to `target`, which are equally many; all is read before anything is written."""
        binding = self._session.io_binding()
        held = {
            names.COPY_SOURCE_STARTS: self._device.hold(source.starts),
            names.COPY_TARGET_STARTS: self._device.hold(target.starts),
            names.COPY_SOURCE_PLANES: source.planes,
            names.COPY_TARGET_PLANES: target.planes,
        }
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        for name, memory in ((names.COPY_SOURCE, source.memory), (names.COPY_TARGET, target.memory)):
            binding.bind_input(name, *self._bound(memory))
        binding.bind_output(names.COPY_TARGET_OUT, *self._bound(target.memory))
        self._session.run_with_iobinding(binding)

    def _bound(self, memory: CacheMemory) -> tuple[str, int, type[np.int64], tuple[int, int], int]:
        shape = (memory.vectors, memory.vector_bytes // names.COPY_WORD_BYTES)
        return self._device.kind, self._device.number, np.int64, shape, memory.pointer(0)


def copy_groups(copies: Sequence[RowCopy]) -> list[list[RowCopy]]:
    """Cut `copies`, which are meant one after the other, into groups whose members may be done at once.

    In a group no row is written twice, and none is read that was to be written before.
    """
    groups: list[list[RowCopy]] = []
    written: set[int] = set()
    for copy in copies:
        if not groups or copy.source in written or copy.target in written:
            groups.append([])
            written = set()
        groups[-1].append(copy)
        written.add(copy.target)
    return groups


def copied_bytes(memory: CacheMemory, copies: Sequence[RowCopy]) -> int:
    """Bytes of keys and values that `copies` move."""
    return sum(copy.end - copy.begin for copy in copies) * memory.planes * memory.vector_bytes
