"""ONNX Runtime behind the engine's ModelRunner protocol."""

from service.bundle import Bundle
from service.runtime.memory import MemoryBudget, MemoryPlan, memory_plan
from service.runtime.onnx_runner import OnnxRunner
from service.runtime.sessions import open_sessions
from service.runtime.settings import RuntimeSettings


def load_runners(bundle: Bundle, settings: RuntimeSettings) -> list[OnnxRunner]:
    """One runner per worker over one pair of sessions; raises BundleError or ConfigError."""
    sessions = open_sessions(bundle, settings)
    return [OnnxRunner(bundle, sessions, settings) for _ in range(settings.workers)]


__all__ = ["MemoryBudget", "MemoryPlan", "OnnxRunner", "RuntimeSettings", "load_runners", "memory_plan"]
