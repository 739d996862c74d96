"""Memory and use of the GPU on the metrics page, asked of NVIDIA's management library when the page is read."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

try:
    import pynvml
except ImportError:  # the CPU's installation does without
    pynvml = None

_FAMILIES = {
    "dragoman_gpu_memory_used_bytes": "Memory of the GPU in use, by whomever.",
    "dragoman_gpu_memory_bytes": "Memory of the GPU.",
    "dragoman_gpu_busy_ratio": "Share of the last moment in which a kernel ran.",
}


class GpuMemoryCollector(Collector):
    """One GPU; where its driver does not answer, the page has the families without values."""

    def __init__(self, device: int) -> None:
        self._device = device

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client."""
        values = self._ask()
        for name, text in _FAMILIES.items():
            family = GaugeMetricFamily(name, text, labels=["device"])
            if name in values:
                family.add_metric([str(self._device)], values[name])
            yield family

    def _ask(self) -> dict[str, float]:
        if pynvml is None:
            return {}
        try:
            pynvml.nvmlInit()  # counted by the library: cheap when it has been done
            handle = pynvml.nvmlDeviceGetHandleByIndex(self._device)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0
        except pynvml.NVMLError:
            return {}
        values = (float(memory.used), float(memory.total), busy)
        return dict(zip(_FAMILIES, values, strict=True))
