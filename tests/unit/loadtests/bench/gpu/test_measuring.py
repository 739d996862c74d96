"""Systems take turns, one that fails is left out, and the rest of the run stays whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtests.bench.cases import OURS, TRANSFORMERS
from loadtests.bench.gpu.cases import DETERMINISTIC, cases, cycled, rows_of, settings_of
from loadtests.bench.gpu.measuring import GpuBench, memory_of, near
from loadtests.bench.measuring import Library
from loadtests.bench.protocol import Answer, Job
from loadtests.bench.settings import SEARCHES
from service.errors import UnavailableError
from tests.unit.loadtests.bench.doubles import FakeLibrary, case_of

SOURCES = [[index, 0] for index in range(5)]


class Dying(FakeLibrary):
    """Ends after some jobs."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self._lives = lives

    def run(self, job: Job) -> Answer:
        """Answer as long as there is a life left."""
        if not self._lives:
            raise UnavailableError("out of memory")
        self._lives -= 1
        return super().run(job)


def bench_of(libraries: dict[str, Library]) -> GpuBench:
    """A bench that keeps its remarks to itself."""
    return GpuBench(libraries, SOURCES, say=lambda line: None)


def test_rows_are_sentences_times_beams() -> None:
    """Beam 4 of 8 rows has two sentences in flight; one row cannot hold four beams and becomes one sentence."""
    searches = [SEARCHES["greedy"], SEARCHES["beam4-normalised"]]
    found = list(cases(searches, (1, 2, 8, 64), (OURS,), rounds=2, fewest=16))
    assert [rows_of(case) for case in found] == [1, 2, 8, 64, 4, 8, 64]
    assert [case.in_flight for case in found] == [1, 2, 8, 64, 1, 2, 16]
    assert [case.sentences for case in found] == [16, 16, 32, 256, 16, 16, 64]


def test_ours_gets_single_sentences_and_the_others_whole_batches() -> None:
    """Row slots are the rows of the case for us; the others get all sentences in flight in one call."""
    case = case_of(OURS, level=16, search="beam4-normalised")
    assert settings_of(OURS, case).row_slots == settings_of(DETERMINISTIC, case).row_slots == 64
    assert settings_of(OURS, case).call_size == 1
    assert settings_of(TRANSFORMERS, case).call_size == 16


def test_a_short_text_goes_round() -> None:
    """There are as many sources as a case wants."""
    assert cycled(SOURCES, 7) == [*SOURCES, *SOURCES[:2]]
    assert cycled(SOURCES, 2) == SOURCES[:2]


def test_systems_take_turns_after_a_warm_up_with_the_whole_case() -> None:
    """Each gets the same sentences once more than there are rounds."""
    libraries = {OURS: FakeLibrary(), TRANSFORMERS: FakeLibrary()}
    rows = bench_of({**libraries}).throughput(case_of(OURS, TRANSFORMERS, level=2, sentences=8, rounds=3))
    assert [row.system for row in rows] == [OURS, TRANSFORMERS]
    assert [len(row.turns) for row in rows] == [3, 3]
    for library in libraries.values():
        assert [job.sources for job in library.jobs] == [cycled(SOURCES, 8)] * 4


@pytest.mark.parametrize("lives", [0, 1, 2])
def test_a_system_that_fails_is_left_out_from_there_on(lives: int) -> None:
    """In the warm-up or after it: its half-measured case is dropped, the other's is not, the reason is kept."""
    bench = bench_of({OURS: FakeLibrary(), TRANSFORMERS: Dying(lives)})
    case = case_of(OURS, TRANSFORMERS, level=2, sentences=4, rounds=2)
    assert [row.system for row in bench.throughput(case)] == [OURS]
    assert [row.system for row in bench.throughput(case)] == [OURS]
    assert bench.left_out == {TRANSFORMERS: "out of memory"}


def test_latency_is_that_of_single_sentences() -> None:
    """One source a job, one round that does not count, tokens with their EOS."""
    ours, other = FakeLibrary(), Dying(3)
    found = bench_of({OURS: ours, TRANSFORMERS: other}).latency(
        (OURS, TRANSFORMERS), SOURCES[:2], SEARCHES["greedy"], rounds=2
    )
    assert [each.system for each in found] == [OURS]
    assert found[0].rounds == [[1.0, 1.0], [1.0, 1.0]]
    assert found[0].tokens == [3, 3]
    assert all(len(job.sources) == 1 and job.in_flight == 1 for job in ours.jobs)


def test_sentences_with_answers_of_the_wanted_length_are_chosen() -> None:
    """EOS counts; the text's order is kept."""
    outputs = [[1] * length for length in (3, 24, 90, 26, 23)]
    assert near(outputs, 25, 3) == [1, 3, 4]


def test_memory_is_what_a_system_of_its_own_takes() -> None:
    """Read before it starts and while it still runs, after its work."""
    used, library = [100], FakeLibrary()

    @contextmanager
    def start() -> Iterator[Library]:
        used[0] += 40
        yield library
        used[0] = 0

    taken = memory_of(start, OURS, case_of(OURS, level=2, sentences=7), SOURCES, lambda: used[0])
    assert taken == 40
    assert [len(job.sources) for job in library.jobs] == [7]
