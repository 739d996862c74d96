"""The settings a system may choose from in a case, and the search for its best."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from loadtests.bench.cases import FLOAT32, INT8, OURS, Case
from loadtests.bench.settings import Settings

LAYOUTS = ((2, 1), (1, 2))
"""Workers x threads of each: two cores either way."""
BATCH_SIZES = (16, 32, 64, 128)
TOKEN_BATCHES = (512, 1024, 2048, 4096)
TOKENS_OF_A_SENTENCE = 32
HOPELESS = 0.7
"""A layout whose first set-up has less than this part of the other's throughput is not swept further."""
CLOSE, FINALISTS = 0.9, 3
"""Single tries on a part of the text scatter by a tenth: what comes so near to the best is tried on all of it."""


def candidates(system: str, case: Case) -> list[Settings]:
    """Every set-up of `system` that fits `case`, the most promising of each layout first."""
    if system == OURS:
        return list(_engine(case))
    if system in (INT8, FLOAT32):
        return list(_ctranslate2(case))
    return list(_transformers(case))


def _engine(case: Case) -> Iterator[Settings]:
    beam = case.search.beam_size
    for workers, threads in LAYOUTS:
        share = -(-case.in_flight // workers)
        sentences = [64, 96, 32] if case.level == 0 else sorted({share, min(case.in_flight, 2 * share)})
        for longest_first in (True, False) if case.level == 0 else (False,):
            for count in sentences:
                yield Settings(workers=workers, threads=threads, row_slots=count * beam, longest_first=longest_first)


def _ctranslate2(case: Case) -> Iterator[Settings]:
    for workers, threads in LAYOUTS:
        for call_size in _call_sizes(case):
            for size, batch_type in _batches(case, call_size):
                yield Settings(
                    workers=workers, threads=threads, call_size=call_size, max_batch_size=size, batch_type=batch_type
                )


def _call_sizes(case: Case) -> list[int]:
    """All in flight in one call, or two calls at a time, one for each worker; a whole file is one call."""
    return [case.in_flight] if case.level in (0, 1) else [case.in_flight, case.in_flight // 2]


def _batches(case: Case, call_size: int) -> list[tuple[int, str]]:
    if case.level == 0:
        sizes = {size for size in BATCH_SIZES if size <= call_size} or {call_size}
    else:
        sizes = {call_size, max(1, call_size // 2), *(size for size in BATCH_SIZES if size <= call_size)}
    tokens = [size for size in TOKEN_BATCHES if size // TOKENS_OF_A_SENTENCE < call_size == case.in_flight]
    examples = [(size, "examples") for size in sorted(sizes, key=lambda size: abs(size - 32))]
    return examples + [(size, "tokens") for size in tokens]


def _transformers(case: Case) -> Iterator[Settings]:
    whole = case.level == 0
    for workers, threads in reversed(LAYOUTS):
        sizes = [32, 64, 16] if whole else [max(1, case.in_flight // workers)]
        for size in sizes:
            call_size = min(size, case.in_flight)
            yield Settings(workers=workers, threads=threads, call_size=call_size, longest_first=whole)


def finalists(settings: list[Settings], measure: Callable[[Settings], float]) -> list[Settings]:
    """The set-ups that come within CLOSE of the largest `measure`, FINALISTS at most, the best first.

    The rest of a hopeless layout is skipped; one set-up alone is not measured.
    """
    if len(settings) == 1:
        return settings
    first = {each.layout: each for each in reversed(settings)}
    measured = {each: measure(each) for each in first.values()}
    enough = HOPELESS * max(measured.values())
    for each in settings:
        if each not in measured and measured[first[each.layout]] >= enough:
            measured[each] = measure(each)
    best = sorted(measured, key=lambda each: -measured[each])[:FINALISTS]
    return [each for each in best if measured[each] >= CLOSE * measured[best[0]]]
