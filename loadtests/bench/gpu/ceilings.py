"""`python -m loadtests.bench.gpu.ceilings`: what a device reaches at best, a copy and a product, timed with torch.

Runs in the peers' environment; prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

COPIED_BYTES = {"cuda": 2**31, "cpu": 2**25}
PRODUCT_SIZE = {"cuda": 8192, "cpu": 512}
REPEATS = 10
"""Calls between two looks at the clock."""
ROUNDS = 7


def best_seconds(work: Callable[[], object], wait: Callable[[], object]) -> float:
    """Seconds of one call in the best round, after one that does not count."""
    taken: list[float] = []
    for _ in range(ROUNDS + 1):
        wait()
        begin = time.perf_counter()
        for _ in range(REPEATS):
            work()
        wait()
        taken.append((time.perf_counter() - begin) / REPEATS)
    return min(taken[1:])


def measured(device: torch.device) -> dict[str, float | str]:
    """Bytes a second of a copy, read and written both counted, and operations a second of a square product."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    source = torch.zeros(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copying = best_seconds(lambda: target.copy_(source), wait)
    size, dtype = PRODUCT_SIZE[device.type], torch.float16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    result = torch.empty_like(left)
    multiplying = best_seconds(lambda: torch.mm(left, right, out=result), wait)
    return {
        "bytes_per_second": 2 * source.numel() / copying,
        "operations_per_second": 2 * size**3 / multiplying,
        "precision": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure one device."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.gpu.ceilings", description=__doc__)
    parser.add_argument("--device", type=torch.device, required=True, help="cuda:0 or cpu")
    print(json.dumps(measured(parser.parse_args().device)))


if __name__ == "__main__":
    main()
