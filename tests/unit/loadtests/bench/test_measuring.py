"""The bench warms up, takes turns, and gives every system its best set-up."""

from dataclasses import replace
from pathlib import Path

from loadtests.bench.__main__ import measure
from loadtests.bench.cases import FLOAT32, INT8, OURS, WHOLE, Case
from loadtests.bench.measuring import Bench, Row
from loadtests.bench.protocol import Answer, Job
from loadtests.bench.settings import Settings
from loadtests.bench.setups import read_setups, write_setups
from loadtests.bench.sweep import candidates, finalists
from tests.unit.loadtests.bench.doubles import FakeLibrary, case_of

SOURCES = [[index, 0] for index in range(300)]


def settings_of(threads: int, row_slots: int) -> Settings:
    """A set-up that a test can tell apart."""
    return Settings(workers=3 - threads, threads=threads, row_slots=row_slots)


def measured(bench: Bench, case: Case) -> list[Row]:
    """All rounds of one case."""
    for _ in range(case.rounds):
        bench.take_round(case)
    (rows,) = bench.rows()
    return rows


def test_systems_take_turns_after_one_warm_up_each() -> None:
    """Each system gets the same sentences as often as there are rounds, and rows come in the case's order."""
    libraries = {OURS: FakeLibrary(), INT8: FakeLibrary()}
    bench = Bench(libraries, SOURCES, sweeps=frozenset(), say=lambda line: None)
    rows = measured(bench, case_of(OURS, INT8, level=8, sentences=40, rounds=3))
    assert [row.system for row in rows] == [OURS, INT8]
    for library in libraries.values():
        assert [len(job.sources) for job in library.jobs] == [16, 40] * 3
        assert all(job.sources == SOURCES[: len(job.sources)] for job in library.jobs)
    assert [len(row.turns) for row in rows] == [3, 3]


def test_rounds_of_a_case_lie_apart() -> None:
    """Every case has its first round before any has its second, and rows come in the order of the cases."""
    told: list[str] = []
    bench = Bench({OURS: FakeLibrary()}, SOURCES, sweeps=frozenset(), say=told.append)
    cases = [case_of(OURS, level=8, sentences=40, rounds=2), case_of(OURS, level=1, sentences=20, rounds=1)]
    assert measure(bench, cases, told.append)
    rounds = [line.partition(" sentences: ")[::2] for line in told if "round" in line]
    assert [(case, about[:12]) for case, about in rounds] == [
        ("greedy, 8, 40", "round 1 of 2"),
        ("greedy, 1, 20", "round 1 of 1"),
        ("greedy, 8, 40", "round 2 of 2"),
    ]
    assert [[len(row.turns) for row in rows] for rows in bench.rows()] == [[2], [1]]


def test_what_was_measured_before_an_interruption_is_kept() -> None:
    """Whole rounds only: a ratio needs a turn of every system."""

    class Interrupted(FakeLibrary):
        def run(self, job: Job) -> Answer:
            if len(self.jobs) == 3:
                raise KeyboardInterrupt
            return super().run(job)

    bench = Bench({OURS: FakeLibrary(), INT8: Interrupted()}, SOURCES, sweeps=frozenset(), say=lambda line: None)
    assert not measure(bench, [case_of(OURS, INT8, level=8, sentences=40, rounds=3)], lambda line: None)
    assert [[len(row.turns) for row in rows] for rows in bench.rows()] == [[1, 1]]


def test_close_set_ups_are_tried_more_than_once() -> None:
    """One lucky try does not decide between them."""

    class Lucky(FakeLibrary):
        def run(self, job: Job) -> Answer:
            answer, size = super().run(job), job.settings.max_batch_size
            tries = [each for each in self.jobs if each.settings == job.settings and len(each.sources) == 256]
            lucky = size == 32 and len(tries) == 1
            return replace(answer, seconds=0.95 if lucky else {32: 1.05, 64: 1.0}.get(size, 3.0))

    bench = Bench({INT8: Lucky()}, SOURCES, sweeps=frozenset({INT8}), say=lambda line: None)
    (row,) = measured(bench, case_of(INT8, level=64, sentences=256))
    assert row.settings.max_batch_size == 64


def test_a_system_runs_with_the_set_up_that_was_fastest_for_it() -> None:
    """The sweep tries the candidates of a case on a part of the text and keeps the best."""
    library = FakeLibrary(lambda settings: 1.0 if settings.max_batch_size == 64 else 2.0)
    bench = Bench({INT8: library}, SOURCES, sweeps=frozenset({INT8}), say=lambda line: None)
    (row,) = measured(bench, case_of(INT8, level=64, sentences=256))
    assert row.settings.max_batch_size == 64


def test_set_ups_that_are_close_are_tried_on_the_whole_text() -> None:
    """What wins on a part of the text by a hair does not win if it is slower on all of it."""

    class Deceptive(FakeLibrary):
        def run(self, job: Job) -> Answer:
            whole = len(job.sources) == len(SOURCES)
            seconds = {32: 1.5 if whole else 0.95, 64: 1.0}.get(job.settings.max_batch_size, 3.0)
            return replace(super().run(job), seconds=seconds)

    bench = Bench({INT8: Deceptive()}, SOURCES, sweeps=frozenset({INT8}), say=lambda line: None)
    (row,) = measured(bench, case_of(INT8, level=WHOLE, sentences=len(SOURCES)))
    assert row.settings.max_batch_size == 64


def test_what_was_chosen_before_is_not_swept_again(tmp_path: Path) -> None:
    """A second run with the first one's file measures the same set-ups, and nothing else."""
    path, first, second = tmp_path / "kept" / "setups.json", FakeLibrary(), FakeLibrary()
    case, setups = case_of(INT8, level=64, sentences=256), read_setups(path)
    assert setups == {}
    bench = Bench({INT8: first}, SOURCES, sweeps=frozenset({INT8}), setups=setups, say=lambda line: None)
    (swept,) = measured(bench, case)
    write_setups(path, setups)
    bench = Bench({INT8: second}, SOURCES, sweeps=frozenset({INT8}), setups=read_setups(path), say=lambda line: None)
    (kept,) = measured(bench, case)
    assert kept.settings == swept.settings
    assert len(second.jobs) == 2 < len(first.jobs)


def test_float32_runs_with_what_was_found_for_int8() -> None:
    """The slow precision is not swept again."""
    fast, slow = FakeLibrary(lambda settings: 1.0 / settings.max_batch_size), FakeLibrary()
    bench = Bench({INT8: fast, FLOAT32: slow}, SOURCES, sweeps=frozenset({INT8, FLOAT32}), say=lambda line: None)
    rows = measured(bench, case_of(INT8, FLOAT32, level=32, sentences=64))
    assert rows[0].settings == rows[1].settings
    assert len(slow.jobs) == 2


def test_no_job_hands_over_more_than_may_be_in_flight() -> None:
    """Whatever a sweep tries, a call fits into the sentences in flight, also where the text is short."""
    for level in (1, 8, 32, 64, WHOLE):
        for search in ("greedy", "beam4"):
            for system in (OURS, INT8, "transformers"):
                library = FakeLibrary()
                bench = Bench({system: library}, SOURCES[:20], sweeps=frozenset({system}), say=lambda line: None)
                measured(bench, case_of(system, level=level, sentences=20, search=search))
                assert all(job.settings.call_size <= job.in_flight for job in library.jobs)


def test_a_whole_file_is_one_call_for_ctranslate2() -> None:
    """It sorts and batches the whole file itself, in the sweep too."""
    library = FakeLibrary()
    bench = Bench({INT8: library}, SOURCES, sweeps=frozenset({INT8}), say=lambda line: None)
    measured(bench, case_of(INT8, level=WHOLE, sentences=300))
    calls = {(len(job.sources), job.settings.call_size) for job in library.jobs if len(job.sources) > 64}
    assert calls == {(256, 256), (300, 300)}


def test_the_sweep_covers_layouts_batch_sizes_and_batch_types() -> None:
    """Both layouts, 16 to 128 examples and token batches for a whole file; both search widths get rows enough."""
    found = candidates(INT8, case_of(INT8, level=WHOLE, sentences=300))
    assert {each.layout for each in found} == {"2x1", "1x2"}
    examples = {each.max_batch_size for each in found if each.batch_type == "examples"}
    assert examples == {16, 32, 64, 128}
    assert {each.batch_type for each in found} == {"examples", "tokens"}
    beams = case_of(OURS, level=1, search="beam4")
    assert all(each.row_slots >= 4 for each in candidates(OURS, beams))
    assert candidates(OURS, replace(beams, level=64))


def test_what_is_left_of_a_hopeless_layout_is_skipped() -> None:
    """A layout whose first set-up has less than 0.7 of the other's throughput is not measured further."""
    measured: list[Settings] = []
    options = [settings_of(threads, rows) for threads in (1, 2) for rows in (8, 16)]

    def measure(settings: Settings) -> float:
        measured.append(settings)
        return 10.0 + settings.row_slots if settings.threads == 1 else 5.0

    assert finalists(options, measure) == [settings_of(1, 16)]
    assert set(measured) == {settings_of(1, 8), settings_of(2, 8), settings_of(1, 16)}
