"""Over many sequences of random lengths memory stays where it was.

The first thousand begin with the longest there can be, in all rows at once: memory is touched when it is first used,
and without them the largest step would come at some random time later.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from service.bundle import Bundle
from service.engine import DecodingOptions, Engine, EngineLimits
from service.runtime import RuntimeSettings, load_runners

BATCH = 250
LONGEST_SOURCE, LONGEST_OUTPUT = 64, 48


def resident_bytes() -> int:
    """Resident set size of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def random_source(bundle: Bundle, numbers: random.Random, *, length: int) -> list[int]:
    """`length` random ids, EOS last."""
    last = bundle.manifest.dimensions.source_vocabulary_size - 1
    return [*(numbers.randint(2, last) for _ in range(length - 1)), bundle.manifest.special_ids.eos]


def translate_random(engine: Engine, bundle: Bundle, numbers: random.Random, *, count: int) -> None:
    """Send `count` random sources of random lengths, greedy and by beams, and wait for all answers."""
    for _ in range(count // BATCH):
        tickets = []
        for _ in range(BATCH):
            source = random_source(bundle, numbers, length=numbers.randint(1, LONGEST_SOURCE - 1))
            limit = numbers.randint(1, LONGEST_OUTPUT)
            options = DecodingOptions(beam_size=numbers.choice([1, 1, 4]), max_output_tokens=limit)
            tickets.append(engine.submit(source, options))
        for ticket in tickets:
            ticket.future.result(300)


def translate_longest(engine: Engine, bundle: Bundle, numbers: random.Random) -> None:
    """Fill all rows of all workers with the longest sources and outputs, greedy and by beams."""
    for beam_size in (1, 4):
        options = DecodingOptions(
            beam_size=beam_size, min_output_tokens=LONGEST_OUTPUT, max_output_tokens=LONGEST_OUTPUT
        )
        sources = [random_source(bundle, numbers, length=LONGEST_SOURCE) for _ in range(BATCH // 2)]
        for ticket in [engine.submit(source, options) for source in sources]:
            ticket.future.result(300)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_memory_is_flat(bundled_int8: Path, results: dict[str, object]) -> None:
    """Resident memory after 10,000 sequences is within 2% of that after 1,000."""
    bundle = Bundle.load(bundled_int8)
    settings = RuntimeSettings(
        workers=2, row_slots=32, max_source_tokens=LONGEST_SOURCE, max_output_tokens=LONGEST_OUTPUT
    )
    engine = Engine(load_runners(bundle, settings), limits=EngineLimits(max_waiting_sequences=10_000))
    engine.start()
    numbers = random.Random(1)
    translate_longest(engine, bundle, numbers)
    translate_random(engine, bundle, numbers, count=750)
    early = resident_bytes()
    translate_random(engine, bundle, numbers, count=9000)
    late = resident_bytes()
    assert engine.shutdown(grace_seconds=10)
    results["soak"] = {"resident_after_1000": early, "resident_after_10000": late, "ratio": round(late / early, 4)}
    assert late < early * 1.02
