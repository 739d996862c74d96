"""ONNX Runtime behind the engine's ModelRunner protocol."""

from service.bundle import Bundle
from service.engine import ModelRunner
from service.errors import ConfigError
from service.malloc import keep_large_blocks_apart
from service.runtime.device_memory import Device
from service.runtime.device_runner import DeviceRunner
from service.runtime.memory import MemoryBudget, MemoryPlan, memory_plan
from service.runtime.onnx_runner import OnnxRunner
from service.runtime.sessions import open_sessions
from service.runtime.settings import RuntimeSettings
from service.runtime.warm_up import warm_up


def load_runners(bundle: Bundle, settings: RuntimeSettings) -> list[ModelRunner]:
    """One runner per worker over one set of sessions, warmed up; raises BundleError or ConfigError."""
    check_precision(bundle, settings)
    keep_large_blocks_apart()
    sessions = open_sessions(bundle, settings)
    runners: list[ModelRunner]
    if settings.provider == "cpu":
        runners = [OnnxRunner(bundle, sessions, settings) for _ in range(settings.workers)]
    else:
        device = Device(kind=settings.provider, number=settings.device_id)
        runners = [DeviceRunner(bundle, sessions, settings, device) for _ in range(settings.workers)]
    warm_up(runners, lone_decoder=settings.has_lone_decoder)
    return runners


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
