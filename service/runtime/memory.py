"""How much memory a model will take, known before it is taken."""

from __future__ import annotations

from dataclasses import dataclass

from service.bundle import Bundle
from service.engine import EngineLimits
from service.errors import ConfigError
from service.graph_names import LANES
from service.runtime.settings import RuntimeSettings
from service.runtime.step_shapes import ENCODER_SENTENCES

_LOG_PROB_BYTES = 4
ENCODED_TOKENS = EngineLimits().max_encode_tokens
"""Padded tokens of one encoder batch, as the engine admits them by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Bytes by purpose, all workers together; the caches are upper bounds that fill as longer texts come.

    With provider cuda all of it is memory of the GPU, taken at once, and `workspace` is what a step and an encoder
    batch need beside it, by estimate.
    """

    weights: int
    self_caches: int
    cross_caches: int
    workspace: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.self_caches + self.cross_caches + self.workspace

    def __str__(self) -> str:
        parts = [("weights", self.weights), ("self caches", self.self_caches), ("cross caches", self.cross_caches)]
        if self.workspace:
            parts.append(("workspace", self.workspace))
        listed = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in parts)
        return f"{self.total / 2**20:.0f} MiB ({listed})"


class MemoryBudget:
    """What several models may plan for together; without a limit everything fits."""

    def __init__(self, limit_bytes: int | None) -> None:
        self._limit = limit_bytes
        self._spent = 0

    def spend(self, plan: MemoryPlan, *, model: str) -> None:
        """Count `plan`; raises ConfigError when it no longer fits, and counts nothing then."""
        spent = self._spent + plan.total
        if self._limit is not None and spent > self._limit:
            raise ConfigError(
                f"model {model} plans for {plan}, {spent / 2**20:.0f} MiB with the models that are loaded, "
                f"and the limit is {self._limit / 2**20:.0f} MiB: "
                "lower row-slots, workers, max-source-tokens or max-output-tokens, or set lone-threads to 1"
            )
        self._spent = spent

    def give_back(self, plan: MemoryPlan) -> None:
        """Count `plan` no more: its model is gone, or was never loaded."""
        self._spent -= plan.total


def memory_plan(bundle: Bundle, settings: RuntimeSettings) -> MemoryPlan:
    """The memory that `settings` promise to `bundle`: weights on disk, keys and values of every slot at full length."""
    manifest = bundle.manifest
    dimensions = manifest.dimensions
    item = manifest.cache_item_bytes
    copies = 2 if settings.has_lone_decoder else 1  # all files again, though the encoder's part of them is not
    position = 2 * dimensions.decoder_layers * dimensions.d_model * item
    outputs = min(settings.max_output_tokens, manifest.max_target_tokens)
    sources = min(settings.max_source_tokens, manifest.max_source_tokens)
    sentences = settings.row_slots + wide_blocks(settings.row_slots)
    logits = settings.row_slots * dimensions.padded_vocabulary_size * (item + 2 * _LOG_PROB_BYTES)
    encoded = max(ENCODED_TOKENS, ENCODER_SENTENCES * sources) * position
    return MemoryPlan(
        weights=copies * sum(entry.bytes for entry in manifest.files.values()),
        self_caches=settings.workers * (settings.row_slots + 1) * outputs * position,
        cross_caches=settings.workers * sentences * sources * position,
        workspace=settings.workers * (logits + encoded) if settings.provider == "cuda" else 0,
    )


def wide_blocks(row_slots: int) -> int:
    """Blocks of LANES rows that sentences with several rows can need at most: two rows already take one."""
    return max(1, row_slots // 2, -(-row_slots // LANES))
