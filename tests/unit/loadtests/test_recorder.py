"""The numbers of a phase: quantiles, statuses, goodput, and where the time went."""

import pytest

from loadtests.recorder import STACK, Call, Recorder, Summary
from loadtests.target import Outcome


def call(intended: float, seconds: float, status: str = "OK", *, lag: float = 0.0, characters: int = 0) -> Call:
    """A call that ended ``seconds`` after it was meant to be sent."""
    outcome = Outcome(status=status)
    return Call(
        intended=intended, sent=intended + lag, ended=intended + seconds, outcome=outcome, characters=characters
    )


def summary_of(*calls: Call, limit_seconds: float = 1.0) -> Summary:
    """What the recorder says of ``calls`` that arrived within ten seconds."""
    recorder = Recorder(limit_seconds=limit_seconds)
    for each in calls:
        recorder.add(each)
    return recorder.summary(seconds=10.0)


def test_nothing_measured_is_said_to_be_nothing() -> None:
    """A phase in which no call was answered has no latency, rather than one of 0 ms."""
    assert summary_of(call(1.0, 0.1, "UNAVAILABLE")).latency_milliseconds is None


def test_only_answers_have_a_latency_but_every_call_a_status() -> None:
    """A quick refusal does not make the latency look better; it is told apart."""
    found = summary_of(call(1.0, 0.2), call(2.0, 0.001, "RESOURCE_EXHAUSTED"))
    assert found.calls == 2
    assert found.statuses == {"OK": 1, "RESOURCE_EXHAUSTED": 1}
    assert found.answered_share == 0.5
    assert found.latency_milliseconds is not None
    assert found.latency_milliseconds["p50"] == pytest.approx(200, rel=2e-3)
    assert found.latency_by_failure["RESOURCE_EXHAUSTED"]["p50"] == pytest.approx(1, rel=2e-3)


def test_an_answer_after_the_limit_is_an_answer_but_no_good_one() -> None:
    """Goodput counts what came in time, in calls and in characters, over the seconds of arrivals."""
    found = summary_of(call(1.0, 0.9, characters=50), call(1.0, 1.1, characters=70), limit_seconds=1.0)
    assert found.answered_per_second == pytest.approx(0.2)
    assert found.goodput_per_second == pytest.approx(0.1)
    assert found.good_characters_per_second == pytest.approx(5.0)


def test_the_generators_own_lag_is_reported() -> None:
    """A generator too slow for its rate says so."""
    lag = summary_of(call(1.0, 0.5, lag=0.25)).generator_lag_milliseconds
    assert lag is not None
    assert lag["p50"] == pytest.approx(250, rel=2e-3)


def test_the_parts_of_the_latency_add_up_to_it() -> None:
    """Lag, network, the server's phases and what lies between them make up the mean latency."""
    recorder = Recorder()
    outcome = Outcome(status="OK", phases=(0.1, 0.01, 0.02, 0.3, 0.01), server_seconds=0.5)
    recorder.add(Call(intended=1.0, sent=1.1, ended=1.7, outcome=outcome, kind="greedy"))
    summary = recorder.summary(seconds=1.0)
    assert list(summary.phases) == list(STACK)
    assert sum(summary.phases.values()) == pytest.approx(700)
    assert summary.phases["generator lag"] == pytest.approx(100)
    assert summary.phases["network and edge"] == pytest.approx(100)
    assert summary.phases["between phases"] == pytest.approx(60)
    assert summary.latency_by_kind["greedy"]["p50"] == pytest.approx(700, rel=2e-3)
