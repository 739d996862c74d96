"""Ratios, agreement and tables of a run, and its picture."""

from pathlib import Path

import pytest

from loadtests.bench.cases import OURS, TRANSFORMERS
from loadtests.bench.gpu.measuring import Latencies
from loadtests.bench.gpu.picture import write_picture
from loadtests.bench.gpu.profiles import ProfileSummary
from loadtests.bench.gpu.report import Measured, as_json, lines_of
from loadtests.bench.gpu.roofline import Ceilings, TimedRun
from loadtests.bench.gpu.tables import aligned, markdown, tables
from loadtests.bench.gpu.traffic import Work
from tests.unit.loadtests.bench.doubles import row_of

CARD = Ceilings(bytes_per_second=1e12, operations_per_second=1e14, precision="float16", torch="0")
PROFILE = ProfileSummary(
    runs=3,
    nodes=90,
    kernels=None,
    run_seconds=0.002,
    busy_seconds=0.001,
    gaps=4,
    gap_seconds=0.001,
    longest_gap_seconds=0.0005,
    nodes_by_provider={"CUDAExecutionProvider": 80, "CPUExecutionProvider": 10},
    copies=2,
    operators={"MatMul": 1.0},
)


def measured_of() -> Measured:
    """A run with something of everything."""
    work = Work(bytes=1e9, operations=1e9)
    return Measured(
        cases=[
            [
                row_of(OURS, [[1, 2], [3]], rates=(10.0, 12.0, 11.0)),
                row_of(TRANSFORMERS, [[1, 2], [4, 4, 4]], rates=(2.0, 3.0, 2.0)),
            ]
        ],
        latencies=[Latencies(system=OURS, rounds=[[0.001, 0.003], [0.002, 0.002]], tokens=[24, 26])],
        memory=[(OURS, "greedy", 64, 2**30)],
        ceilings=CARD,
        runs=[TimedRun(graph="decoder", mode="fast", rows=64, work=work, seconds=0.004)],
        profiles=[("fast", 64, PROFILE)],
    )


def test_ratios_are_taken_round_by_round() -> None:
    """Five, four and five and a half times: the median is one of them."""
    ours, other = lines_of(measured_of().cases[0])
    assert ours.ratio is None
    assert other.ratio is not None
    assert (other.ratio.median, other.ratio.least, other.ratio.largest) == (5.0, 4.0, 5.5)
    assert other.tokens_per_second.median == pytest.approx(60.0)


def test_agreement_and_lengths_show_who_did_other_work() -> None:
    """Half of the sentences have our tokens; EOS counts in an answer's length."""
    ours, other = lines_of(measured_of().cases[0])
    assert (ours.same, other.same) == (1.0, 0.5)
    assert (ours.tokens_per_sentence, other.tokens_per_sentence) == (2.5, 3.5)


def test_without_our_rows_nothing_is_compared() -> None:
    """A peer alone keeps its own figures."""
    (line,) = lines_of([row_of(TRANSFORMERS, [[1]], rates=(2.0,))])
    assert line.ratio is None
    assert line.same is None


def test_tables_say_what_was_measured() -> None:
    """Every part has its table; figures that nobody told are not shown as 0."""
    found = dict(tables(measured_of()))
    assert found["Throughput, best hypotheses"][2][3:7] == ("transformers", "60", "60-90", "5.00")
    assert found["One sentence at a time, greedy"][1] == (OURS, "2", "25.0", "2.00", "2.00-2.00", "3.00")
    assert found["Memory of the device"][1] == ("greedy", "64", OURS, "1024")
    decoder = found["Runs of the graphs beside the card's ceilings"][1]
    assert decoder == ("decoder", "fast", "64", "4.000", "250.0", "250.0", "1.0", "1.0000", "25.0%")
    profile = found["Profile of a decode step"][1]
    assert profile == ("fast", "64", "90", "10", "2", "not told", "2.000", "1.000", "4", "1.000", "0.500")
    for cells in found.values():
        assert len({len(row) for row in cells}) == 1
        assert len(aligned(cells).splitlines()) == len(cells)
        assert len(markdown(cells).splitlines()) == len(cells) + 1


def test_an_empty_run_has_no_tables_and_still_a_picture(tmp_path: Path) -> None:
    """A run that was interrupted at once is written like any other."""
    assert list(tables(Measured())) == []
    write_picture(Measured(), tmp_path / "empty.png")
    write_picture(measured_of(), tmp_path / "full.png")
    assert (tmp_path / "full.png").stat().st_size > (tmp_path / "empty.png").stat().st_size > 0


def test_the_json_has_no_translations() -> None:
    """Everything measured is there, the text is not."""
    fields = as_json(measured_of(), facts={"began": "today"})
    assert "outputs" not in str(fields)
    assert {"began", "ceilings", "throughput", "latency", "memory", "runs", "profiles"} == set(fields)
