"""The bench warms up, takes turns, and gives every system its best set-up."""

from dataclasses import replace
from pathlib import Path

from loadtests.bench.cases import FLOAT32, INT8, OURS, WHOLE
from loadtests.bench.measuring import Bench
from loadtests.bench.protocol import Answer, Job
from loadtests.bench.settings import Settings
from loadtests.bench.setups import read_setups, write_setups
from loadtests.bench.sweep import candidates, finalists
from tests.unit.loadtests.bench.doubles import FakeLibrary, case_of

SOURCES = [[index, 0] for index in range(300)]


def settings_of(threads: int, row_slots: int) -> Settings:
    """A set-up that a test can tell apart."""
    return Settings(workers=3 - threads, threads=threads, row_slots=row_slots)


def test_systems_take_turns_after_one_warm_up_each() -> None:
    """Each system gets the same sentences as often as there are rounds, and rows come in the case's order."""
    libraries = {OURS: FakeLibrary(), INT8: FakeLibrary()}
    bench = Bench(libraries, SOURCES, sweeps=frozenset(), say=lambda line: None)
    rows = bench.measure(case_of(OURS, INT8, level=8, sentences=40, rounds=3))
    assert [row.system for row in rows] == [OURS, INT8]
    for library in libraries.values():
        assert [len(job.sources) for job in library.jobs] == [16, 40, 40, 40]
        assert all(job.sources == SOURCES[: len(job.sources)] for job in library.jobs)
    assert [len(row.turns) for row in rows] == [3, 3]


def test_a_system_runs_with_the_set_up_that_was_fastest_for_it() -> None:
    """The sweep tries the candidates of a case on a part of the text and keeps the best."""
    library = FakeLibrary(lambda settings: 1.0 if settings.max_batch_size == 64 else 2.0)
    bench = Bench({INT8: library}, SOURCES, sweeps=frozenset({INT8}), say=lambda line: None)
    (row,) = bench.measure(case_of(INT8, level=64, sentences=256))
    assert row.settings.max_batch_size == 64


def test_set_ups_that_are_close_are_tried_on_the_whole_text() -> None:
    """What wins on a part of the text by a hair does not win if it is slower on all of it."""

    class Deceptive(FakeLibrary):
        def run(self, job: Job) -> Answer:
            whole = len(job.sources) == len(SOURCES)
            seconds = {32: 1.5 if whole else 0.95, 64: 1.0}.get(job.settings.max_batch_size, 3.0)
            return replace(super().run(job), seconds=seconds)

    bench = Bench({INT8: Deceptive()}, SOURCES, sweeps=frozenset({INT8}), say=lambda line: None)
    (row,) = bench.measure(case_of(INT8, level=WHOLE, sentences=len(SOURCES)))
    assert row.settings.max_batch_size == 64


def test_what_was_chosen_before_is_not_swept_again(tmp_path: Path) -> None:
    """A second run with the first one's file measures the same set-ups, and nothing else."""
    path, first, second = tmp_path / "kept" / "setups.json", FakeLibrary(), FakeLibrary()
    case, setups = case_of(INT8, level=64, sentences=256), read_setups(path)
    assert setups == {}
    bench = Bench({INT8: first}, SOURCES, sweeps=frozenset({INT8}), setups=setups, say=lambda line: None)
    (swept,) = bench.measure(case)
    write_setups(path, setups)
    bench = Bench({INT8: second}, SOURCES, sweeps=frozenset({INT8}), setups=read_setups(path), say=lambda line: None)
    (kept,) = bench.measure(case)
    assert kept.settings == swept.settings
    assert len(second.jobs) == 2 < len(first.jobs)


def test_float32_runs_with_what_was_found_for_int8() -> None:
    """The slow precision is not swept again."""
    fast, slow = FakeLibrary(lambda settings: 1.0 / settings.max_batch_size), FakeLibrary()
    bench = Bench({INT8: fast, FLOAT32: slow}, SOURCES, sweeps=frozenset({INT8, FLOAT32}), say=lambda line: None)
    rows = bench.measure(case_of(INT8, FLOAT32, level=32, sentences=64))
    assert rows[0].settings == rows[1].settings
    assert len(slow.jobs) == 2


def test_no_job_hands_over_more_than_may_be_in_flight() -> None:
    """Whatever a sweep tries, a call fits into the sentences in flight, also where the text is short."""
    for level in (1, 8, 32, 64, WHOLE):
        for search in ("greedy", "beam4"):
            for system in (OURS, INT8, "transformers"):
                library = FakeLibrary()
                bench = Bench({system: library}, SOURCES[:20], sweeps=frozenset({system}), say=lambda line: None)
                bench.measure(case_of(system, level=level, sentences=20, search=search))
                assert all(job.settings.call_size <= job.in_flight for job in library.jobs)


def test_a_whole_file_is_one_call_for_ctranslate2() -> None:
    """It sorts and batches the whole file itself, in the sweep too."""
    library = FakeLibrary()
    bench = Bench({INT8: library}, SOURCES, sweeps=frozenset({INT8}), say=lambda line: None)
    bench.measure(case_of(INT8, level=WHOLE, sentences=300))
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
