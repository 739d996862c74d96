"""ONNX Runtime behind the engine's ModelRunner protocol."""

from service.bundle import Bundle
from service.engine import ModelRunner
from service.errors import ConfigError
from service.runtime.device_memory import Device
from service.runtime.device_runner import DeviceRunner
from service.runtime.memory import MemoryBudget, MemoryPlan, memory_plan
from service.runtime.onnx_runner import OnnxRunner
from service.runtime.sessions import open_sessions
from service.runtime.settings import RuntimeSettings


def load_runners(bundle: Bundle, settings: RuntimeSettings) -> list[ModelRunner]:
    """One runner per worker over one set of sessions; raises BundleError or ConfigError."""
    check_precision(bundle, settings)
    sessions = open_sessions(bundle, settings)
    if settings.provider == "cpu":
        return [OnnxRunner(bundle, sessions, settings) for _ in range(settings.workers)]
    device = Device(kind=settings.provider, number=settings.device_id)
    return [DeviceRunner(bundle, sessions, settings, device) for _ in range(settings.workers)]


def check_precision(bundle: Bundle, settings: RuntimeSettings) -> None:
    """Refuse a bundle that the provider has no operators for; raises ConfigError."""
    half = bundle.manifest.precision == "fp16"
    if half != (settings.provider == "cuda"):
        fitting = "fp16" if settings.provider == "cuda" else "fp32 or int8"
        raise ConfigError(
            f"model {bundle.manifest.model_id} is {bundle.manifest.precision} and provider {settings.provider} "
            f"takes {fitting}: export it again with another --precision"
        )


__all__ = [
    "DeviceRunner",
    "MemoryBudget",
    "MemoryPlan",
    "OnnxRunner",
    "RuntimeSettings",
    "load_runners",
    "memory_plan",
]
