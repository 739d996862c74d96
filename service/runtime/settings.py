"""What the runtime is given: workers, threads, memory bounds and the execution provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Provider = Literal["cpu", "cuda"]
DecodingMode = Literal["fast", "deterministic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """Settings of one model's runners. Token limits are lowered to the model's own; outputs count EOS.

    `mode` and `device_id` (which GPU) are for CUDA: on a CPU every answer is independent of its company as it is.
    """

    workers: int = 1
    threads_per_worker: int = 1
    row_slots: int = 32
    max_source_tokens: int = 256
    max_output_tokens: int = 256
    provider: Provider = "cpu"
    mode: DecodingMode = "fast"
    device_id: int = 0
