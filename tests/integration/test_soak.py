"""Over many sequences of random lengths memory stays where it was, and every slot comes back.

In a process of its own: torch, which the exporter brings into this one, would hide what the engine takes.
"""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from service.bundle import Bundle
from service.engine import DecodingOptions, Engine, EngineLimits
from service.runtime import RuntimeSettings, load_runners

BATCH = 250


def resident_bytes() -> int:
    """Resident set size of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def translate_random(engine: Engine, bundle: Bundle, numbers: random.Random, *, count: int) -> None:
    """Send `count` random sources of random lengths, greedy and by beams, and wait for all answers."""
    last = bundle.manifest.dimensions.source_vocabulary_size - 1
    for _ in range(count // BATCH):
        tickets = []
        for _ in range(BATCH):
            source = [numbers.randint(2, last) for _ in range(numbers.randint(0, 62))]
            options = DecodingOptions(beam_size=numbers.choice([1, 1, 4]), max_output_tokens=numbers.randint(1, 48))
            tickets.append(engine.submit([*source, bundle.manifest.special_ids.eos], options))
        for ticket in tickets:
            ticket.future.result(300)


def soak(directory: Path) -> tuple[int, int]:
    """Resident bytes after 1,000 and after 10,000 sequences."""
    bundle = Bundle.load(directory)
    settings = RuntimeSettings(workers=2, row_slots=32, max_source_tokens=64, max_output_tokens=48)
    engine = Engine(load_runners(bundle, settings), limits=EngineLimits(max_waiting_sequences=10_000))
    engine.start()
    numbers = random.Random(1)
    translate_random(engine, bundle, numbers, count=1000)
    early = resident_bytes()
    translate_random(engine, bundle, numbers, count=9000)
    late = resident_bytes()
    assert engine.shutdown(grace_seconds=10)
    return early, late


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_memory_is_flat(bundled_int8: Path, results: dict[str, object]) -> None:
    """Resident memory after 10,000 sequences is within 2% of that after 1,000."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        early, late = process.submit(soak, bundled_int8).result()
    results["soak"] = {"resident_after_1000": early, "resident_after_10000": late, "ratio": round(late / early, 4)}
    assert late < early * 1.02
