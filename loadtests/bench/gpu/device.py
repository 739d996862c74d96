"""The device of a run: whether it is there, what it is, how much of its memory is in use, and our runner on it.

`python -m loadtests.bench.gpu.device` ends with exit code 3 and one line where there is none.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from service.bundle import Bundle
from service.errors import ConfigError, UnavailableError
from service.runtime import DeviceRunner, RuntimeSettings
from service.runtime.device_memory import Device
from service.runtime.sessions import Sessions
from service.runtime.settings import Provider

try:
    import pynvml
except ImportError:  # the CPU's installation does without
    pynvml = None

NO_GPU = 3
"""Exit code."""
_PARENT, _PAGES = 1, 21
"""Fields 4 and 24 of /proc/PID/stat, counted after the command's closing bracket (man 5 proc)."""


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a device."""
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda", help="cpu: a smoke of this program")
    parser.add_argument("--device-id", type=int, default=0, metavar="N", help="which GPU (%(default)s)")


def has_gpu(device_id: int) -> bool:
    """Whether ONNX Runtime can hold memory on this GPU."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return False
    ort.preload_dlls()  # CUDA's libraries may lie in Python packages, where the loader does not look
    try:
        Device(kind="cuda", number=device_id).hold(np.zeros(1, np.int64))
    except Exception:  # ONNX Runtime's exceptions have no common class of their own
        return False
    return True


def is_missing(provider: Provider, device_id: int) -> bool:
    """Say in one line, and return, that the GPU which was asked for is not there."""
    missing = provider == "cuda" and not has_gpu(device_id)
    if missing:
        print("gpu-bench: ONNX Runtime can use no such GPU on this machine, nothing was measured", file=sys.stderr)
    return missing


def check_precision(bundle: Bundle, provider: Provider) -> None:
    """Refuse a bundle that is not measured on this device: raises ConfigError."""
    fitting = ("fp16",) if provider == "cuda" else ("fp16", "fp32")
    if bundle.manifest.precision not in fitting:
        raise ConfigError(
            f"{bundle.directory} is {bundle.manifest.precision}, and {provider} is measured with "
            f"{' or '.join(fitting)}: export it again with another --precision"
        )


def device_runner(bundle: Bundle, sessions: Sessions, runtime: RuntimeSettings) -> DeviceRunner:
    """The runner that serves on a GPU, on either device; raises ConfigError for a precision that does not fit."""
    check_precision(bundle, runtime.provider)
    return DeviceRunner(bundle, sessions, runtime, Device(kind=runtime.provider, number=runtime.device_id))


class DeviceWatch:
    """Memory in use on a GPU by whomever, or in main memory by this process's children, and what the device is."""

    def __init__(self, provider: Provider, device_id: int) -> None:
        self._provider = provider
        self._handle: object | None = None
        if provider == "cuda" and pynvml is not None:
            try:
                pynvml.nvmlInit()
                self._handle = pynvml.nvmlDeviceGetHandleByIndex(device_id)
            except pynvml.NVMLError:
                self._handle = None

    def used_bytes(self) -> int:
        """Bytes in use; raises UnavailableError where nobody tells."""
        if self._provider == "cpu":
            return _memory_of_children()
        if self._handle is None:
            raise UnavailableError("NVIDIA's management library does not answer: pip install nvidia-ml-py")
        return int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def facts(self) -> dict[str, object]:
        """Name, memory and driver of a GPU, as far as they are told."""
        if self._handle is None:
            return {"provider": self._provider}
        return {
            "provider": self._provider,
            "name": str(pynvml.nvmlDeviceGetName(self._handle)),
            "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).total),
            "driver": str(pynvml.nvmlSystemGetDriverVersion()),
        }


def _memory_of_children() -> int:
    """Bytes in main memory of all processes that this one started itself."""
    pages = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[_PARENT]) == os.getpid():
            pages += int(fields[_PAGES])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: the device is there; other options than those of a device are passed over."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.gpu.device", description=__doc__)
    add_device(parser)
    given, _ = parser.parse_known_args(arguments)
    return NO_GPU if is_missing(given.provider, given.device_id) else 0


if __name__ == "__main__":
    sys.exit(main())
