"""The devices that tests of the device runner run on: the CPU, and a GPU where ONNX Runtime can use one."""

from __future__ import annotations

from loadtests.bench.gpu.device import has_gpu
from service.bundle import Bundle
from service.engine import ModelRunner
from service.runtime import DeviceRunner, RuntimeSettings
from service.runtime.device_memory import Device
from service.runtime.sessions import open_sessions
from service.runtime.settings import DecodingMode, Provider

PROVIDERS: tuple[Provider, ...] = ("cpu", "cuda") if has_gpu(0) else ("cpu",)
"""Without a GPU its tests are not collected, so none is skipped."""
MODES: tuple[DecodingMode, ...] = ("fast", "deterministic")


def device_runners(bundle: Bundle, settings: RuntimeSettings) -> list[ModelRunner]:
    """As `service.runtime.load_runners`, but on the device "cpu" the GPU's runner too, whatever the precision."""
    device = Device(kind=settings.provider, number=settings.device_id)
    sessions = open_sessions(bundle, settings)
    return [DeviceRunner(bundle, sessions, settings, device) for _ in range(settings.workers)]


def bits_are_promised(provider: Provider, mode: DecodingMode) -> bool:
    """Whether an answer must be equal to the last bit alone and in company."""
    return provider == "cpu" or mode == "deterministic"
