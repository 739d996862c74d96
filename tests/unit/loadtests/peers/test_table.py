"""What the table says of a comparison, and the picture that shows it."""

from pathlib import Path

from loadtests.capacity import Capacity
from loadtests.measurement import PhaseResult
from loadtests.peers.comparison import Comparison, SystemResult
from loadtests.peers.picture import write_picture
from loadtests.peers.systems import CTRANSLATE2, OURS, Setup
from loadtests.peers.table import best_characters, best_goodput, carried, light_p50, markdown, worst_goodput
from loadtests.recorder import Call, Recorder
from loadtests.target import Outcome


def phase(name: str, *, rate: int, good: int, latency: float, characters: int = 40) -> PhaseResult:
    """Ten seconds at `rate`, of which `good` calls a second, each of so many characters, were answered after `latency`
    seconds."""
    recorder = Recorder(limit_seconds=1.0)
    for number in range(10 * rate):
        outcome = Outcome(status="OK" if number < 10 * good else "DEADLINE_EXCEEDED")
        recorder.add(Call(intended=0.0, sent=0.0, ended=latency, outcome=outcome, characters=characters))
    return PhaseResult(
        name=name,
        offered_per_second=float(rate),
        seconds=10.0,
        summary=recorder.summary(seconds=10.0),
        generator_cpu_share=0.1,
        others_cpu_share=0.0,
        invalid=None,
    )


def server(system: str, *rounds: list[PhaseResult]) -> SystemResult:
    """A server with these rounds."""
    return SystemResult(
        system=system,
        setup=Setup(),
        capacity=Capacity(alone_seconds=0.1, alone_slow_seconds=0.2, per_second=40.0),
        peak_memory_bytes=2**30,
        rounds=list(rounds),
    )


LIGHT = phase("0.1", rate=4, good=4, latency=0.1)
THEIRS = server(
    CTRANSLATE2,
    [LIGHT, phase("0.5", rate=20, good=20, latency=0.5), phase("1", rate=40, good=10, latency=0.9)],
    [LIGHT, phase("0.5", rate=20, good=19, latency=0.5), phase("1", rate=40, good=20, latency=0.9, characters=10)],
)
MINE = server(
    OURS,
    *[[phase("0.1", rate=4, good=4, latency=0.05), phase("0.5", rate=20, good=20, latency=0.1)]] * 2,
)
BOTH = [Comparison(search="greedy", began="", limit_seconds=1.0, others_cpu_share=0.0, systems=[MINE, THEIRS])]


def test_figures_of_each_round() -> None:
    """The best goodput, in calls and in characters; the best at a rate of which 99% are good; the median at light load;
    what overload leaves."""
    assert best_goodput(THEIRS) == [20.0, 20.0]
    assert best_characters(THEIRS) == [800.0, 760.0]
    assert carried(THEIRS) == [20.0, 4.0]
    assert worst_goodput(THEIRS) == [0.5, 1.0]
    assert [round(each) for each in light_p50(THEIRS)] == [100, 100]


def test_ratios_are_taken_within_a_round_with_their_spread() -> None:
    """Ours carries 20 calls a second in both rounds, the other 20 and 4."""
    text = markdown(BOTH)
    goodput, characters, carried_goodput, p50 = text.rstrip().splitlines()[-1].split(" | ")[1:]
    assert goodput == "**1.00** (1.00-1.00), second run 1.00-1.00"
    assert characters.startswith("**1.03** (1.00-1.05), second run 0.")
    assert carried_goodput.startswith("**3.00** (1.00-5.00), second run 0.00-")
    assert p50 == "**0.50** (0.50-0.50), second run 0.50-0.50 |"
    assert "1024 MiB" in text


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    """A PNG with a column for the search."""
    write_picture(BOTH, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
