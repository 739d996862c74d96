"""The small inputs of a step, which reach the device in one copy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from service.runtime.device_memory import Device

_ALIGNMENT = 256
"""Fields begin at multiples of this many bytes, as CUDA's own allocations do."""


class StagedInputs:
    """Arrays side by side in one block of host memory, and a block of device memory that `send` makes equal to it."""

    def __init__(self, fields: Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]], device: Device) -> None:
        """`fields` gives the type and shape of each array."""
        offsets: dict[str, int] = {}
        size = 0
        for name, (dtype, shape) in fields.items():
            offsets[name] = size
            size += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
        self._offsets = offsets
        self._block = np.zeros(size, np.uint8)
        self._copy = device.hold(np.zeros(size, np.uint8))
        self.arrays: dict[str, npt.NDArray[np.generic]] = {}
        for name, (dtype, shape) in fields.items():
            begin, count = offsets[name], int(np.prod(shape))
            end = begin + count * np.dtype(dtype).itemsize
            self.arrays[name] = self._block[begin:end].view(dtype).reshape(shape)

    def pointer(self, name: str) -> int:
        """Address of an array on the device."""
        return int(self._copy.data_ptr()) + self._offsets[name]

    def send(self) -> None:
        """Copy everything to the device."""
        self._copy.update_inplace(self._block)
