"""How much memory a model will take, known before it is taken."""

from __future__ import annotations

from dataclasses import dataclass

from service.bundle import Bundle
from service.errors import ConfigError
from service.graph_names import LANES
from service.runtime.settings import RuntimeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Bytes by purpose, all workers together; the caches are upper bounds that fill as longer texts come."""

    weights: int
    self_caches: int
    cross_caches: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.self_caches + self.cross_caches

    def __str__(self) -> str:
        parts = ("weights", self.weights), ("self caches", self.self_caches), ("cross caches", self.cross_caches)
        listed = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in parts)
        return f"{self.total / 2**20:.0f} MiB ({listed})"


class MemoryBudget:
    """What several models may plan for together."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._spent = 0

    def spend(self, plan: MemoryPlan, *, model: str) -> None:
        """Count `plan`; raises ConfigError when it no longer fits."""
        self._spent += plan.total
        if self._spent > self._limit:
            raise ConfigError(
                f"model {model} plans for {plan}, {self._spent / 2**20:.0f} MiB with the models before it, "
                f"and the limit is {self._limit / 2**20:.0f} MiB: "
                "lower row-slots, workers, max-source-tokens or max-output-tokens"
            )


def memory_plan(bundle: Bundle, settings: RuntimeSettings) -> MemoryPlan:
    """The memory that `settings` promise to `bundle`: weights on disk, keys and values of every slot at full length."""
    manifest = bundle.manifest
    dimensions = manifest.dimensions
    item = 2 if manifest.precision == "fp16" else 4
    position = 2 * dimensions.decoder_layers * dimensions.d_model * item
    outputs = min(settings.max_output_tokens, manifest.max_target_tokens)
    sources = min(settings.max_source_tokens, manifest.max_source_tokens)
    sentences = settings.row_slots + wide_blocks(settings.row_slots)
    return MemoryPlan(
        weights=sum(entry.bytes for entry in manifest.files.values()),
        self_caches=settings.workers * (settings.row_slots + 1) * outputs * position,
        cross_caches=settings.workers * sentences * sources * position,
    )


def wide_blocks(row_slots: int) -> int:
    """Blocks of LANES rows that sentences with several rows can need at most: two rows already take one."""
    return max(1, row_slots // 2, -(-row_slots // LANES))
