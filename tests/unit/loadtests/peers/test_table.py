"""What the table says of a comparison, and the picture that shows it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.capacity import Capacity
from loadtests.measurement import PhaseResult
from loadtests.peers.comparison import Comparison, SystemResult
from loadtests.peers.picture import write_picture
from loadtests.peers.systems import CTRANSLATE2, OURS, Setup
from loadtests.peers.table import (
    best_characters,
    best_goodput,
    carried,
    light_p50,
    markdown,
    named_ratios,
    worst_goodput,
)
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
    *_, ratios, _, validity = text.rstrip().splitlines()
    goodput, characters, p50 = ratios.split(" | ")[1:]
    assert goodput == "**1.00** (1.00-1.00), second run 1.00-1.00"
    assert characters.startswith("**1.03** (1.00-1.05), second run 0.")
    assert p50 == "**0.50** (0.50-0.50), second run 0.50-0.50 |"
    assert "1024 MiB" in text
    assert validity == "0 of 10 phases say nothing."


def test_phases_that_say_nothing_are_counted_with_their_reasons() -> None:
    """A reader sees them beside the table."""
    odd = replace(LIGHT, invalid="the generator lagged")
    text = markdown([replace(BOTH[0], systems=[MINE, server(CTRANSLATE2, [odd, LIGHT], [LIGHT, odd])])])
    assert text.rstrip().endswith("2 of 8 phases say nothing: the generator lagged.")


def test_a_server_without_a_good_answer_has_no_ratios() -> None:
    """It has a line all the same, and a round in which it answered one gives none either."""
    none = server(CTRANSLATE2, [phase("0.1", rate=4, good=0, latency=0.9)], [LIGHT])
    assert math.isnan(light_p50(none)[0])
    comparison = replace(BOTH[0], systems=[MINE, none])
    assert worst_goodput(none) == [0.0, 1.0]
    assert "it carries none" in markdown([comparison])
    assert named_ratios([comparison]) == {}
    assert "nan" not in markdown([comparison])


def test_ratios_are_named_for_a_second_run() -> None:
    """By search, figure and server; what is one of the rates is none of them."""
    assert named_ratios(BOTH)["greedy, in characters, over ctranslate2"] == pytest.approx([1.0, 800 / 760])
    assert len(named_ratios(BOTH)) == 3


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    """A PNG with a column for the search."""
    write_picture(BOTH, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
