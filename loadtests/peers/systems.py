"""The servers that are compared, and the set-ups that each may choose from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.server_process import SERVICE

OURS, STATIC, CTRANSLATE2, TRANSFORMERS = "dragoman", "dragoman-static", "ctranslate2", "transformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a server is set up: `size` is rows of a worker for ours, sentences of a batch for the others."""

    workers: int = 2
    threads: int = 1
    size: int = 32
    wait_milliseconds: float = 0.0

    def describe(self) -> str:
        """In a few words."""
        wait = f", wait {self.wait_milliseconds:g} ms" if self.wait_milliseconds else ""
        return f"{self.workers}x{self.threads}, {self.size}{wait}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Where the same weights lie in each form, and the interpreter that has the peers."""

    bundle: Path
    checkpoint: Path
    converted: Path
    python: Path

    def command(self, system: str, setup: Setup) -> list[str | Path]:
        """What starts the server of `system`."""
        layout = ["--workers", str(setup.workers)]
        if system in (OURS, STATIC):
            rows = ["--threads-per-worker", str(setup.threads), "--row-slots", str(setup.size)]
            static = ["--static-batching"] if system == STATIC else []
            return [*SERVICE, "--bundle", self.bundle, *layout, *rows, *static]
        options = [*layout, "--threads", str(setup.threads), "--batch-size", str(setup.size)]
        options += ["--wait-milliseconds", str(setup.wait_milliseconds), "--tokenizer", str(self.checkpoint)]
        if system == CTRANSLATE2:
            return [self.python, "-m", "loadtests.peers.ctranslate2_server", "--model", self.converted, *options]
        return [self.python, "-m", "loadtests.peers.transformers_server", *options]


LAYOUTS = ((2, 1), (1, 2))
WAITS = (0.0, 5.0, 20.0)
SIZES: dict[str, dict[int, tuple[int, ...]]] = {
    OURS: {1: (32, 16, 64), 4: (64, 32, 128)},
    CTRANSLATE2: {1: (16, 8, 32, 64), 4: (8, 4, 16, 32)},
    TRANSFORMERS: {1: (16, 8, 32), 4: (8, 4, 16)},
}
"""By beam size, for each of two workers; one alone gets twice as many. Layouts are compared with the first."""
Judge = Callable[[Setup], Awaitable[float]]


async def best_setup(system: str, *, beam_size: int, judge: Judge) -> Setup:
    """The set-up with the highest figure of `judge`, one choice after the other: layout, size, wait for company."""
    sizes = SIZES[system][beam_size]
    # Waiting for company is CTranslate2's affair: ours does not wait, and beside transformers' batches no wait counts.
    waits = WAITS if system == CTRANSLATE2 else WAITS[:1]
    first = Setup(size=sizes[0], wait_milliseconds=waits[len(waits) // 2])
    judged: dict[Setup, float] = {}

    async def best(candidates: Iterable[Setup]) -> Setup:
        for each in candidates:
            if each not in judged:
                judged[each] = await judge(each)
        return max(judged, key=lambda each: judged[each])

    def of(layout: tuple[int, int], size: int) -> Setup:
        workers, threads = layout
        return replace(first, workers=workers, threads=threads, size=size * first.workers // workers)

    chosen = await best(of(layout, sizes[0]) for layout in LAYOUTS)
    chosen = await best(of((chosen.workers, chosen.threads), size) for size in sizes)
    return await best(replace(chosen, wait_milliseconds=wait) for wait in waits)
