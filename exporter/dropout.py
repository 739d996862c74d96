"""Dropout whose masks are cheap to draw and depend on a seed of the drawing thread alone."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn


class Randomness:
    """Where dropout draws from: a generator of each thread's own, once it is seeded, else PyTorch's."""

    def __init__(self) -> None:
        self._local = threading.local()

    def seed(self, seed: int) -> None:
        """Give the current thread a fresh generator, so that what it draws depends on ``seed`` alone."""
        self._local.generator = torch.Generator().manual_seed(seed)

    def draw_bytes(self, count: int) -> Tensor:
        """Return ``count`` uniform uint8 on the CPU, drawn eight at a time."""
        generator: torch.Generator | None = getattr(self._local, "generator", None)
        words = torch.empty(-(-count // 8), dtype=torch.int64)
        return words.random_(-(2**63), None, generator=generator).view(torch.uint8)[:count]

    def __deepcopy__(self, memo: object) -> Randomness:
        """Return a fresh source: a thread's generator cannot be copied."""
        return Randomness()


class Dropout(nn.Module):
    """Dropout in steps of 1/256, from cheap random bytes: PyTorch's own takes a tenth of a training step on a CPU."""

    def __init__(self, rate: float, randomness: Randomness) -> None:
        super().__init__()
        self.dropped = round(rate * 256)
        self.randomness = randomness

    def forward(self, states: Tensor) -> Tensor:
        """Zero a share of ``states`` and scale up the rest, in training mode only."""
        if not self.training or not self.dropped:
            return states
        kept = self.randomness.draw_bytes(states.numel()).view(states.shape) >= self.dropped
        return states * kept.to(states.device, states.dtype).mul_(256 / (256 - self.dropped))
