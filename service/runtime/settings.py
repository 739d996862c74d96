"""What the runtime is given: workers, threads, memory bounds and the execution provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Provider = Literal["cpu", "cuda"]
DecodingMode = Literal["fast", "deterministic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """Settings of one model's runners. Token limits are lowered to the model's own; outputs count EOS.

    `lone_threads` are those of a decode step while no other worker has sequences, on a CPU only. `mode` and `device_id`
    (which GPU) are for CUDA: on a CPU every answer is independent of its company as it is.
    """

    workers: int = 1
    threads_per_worker: int = 1
    lone_threads: int = 1
    row_slots: int = 32
    max_source_tokens: int = 256
    max_output_tokens: int = 256
    provider: Provider = "cpu"
    mode: DecodingMode = "fast"
    device_id: int = 0

    @property
    def has_lone_decoder(self) -> bool:
        """Whether a worker that is alone has a decoder with more threads."""
        return self.provider == "cpu" and self.lone_threads > self.threads_per_worker
