"""What the shapes ask of a server: equal calls where phases are compared, texts of like length under overload."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from loadtests.arrivals import phased_arrivals
from loadtests.capacity import Capacity
from loadtests.request import Request
from loadtests.scenarios.mixes import options
from loadtests.scenarios.shapes import burst, overload, ramp, soak, steady, texts_near_mean_length
from loadtests.scenarios.subject import ScenarioResult, Subject, default_texts
from loadtests.target import Outcome


class Server:
    """Answers at once, from some call on after `slow_seconds`, and remembers what it was asked."""

    def __init__(self, *, slow_seconds: float = 0.0, slow_from: int = 0) -> None:
        self.texts: list[str] = []
        self._slow_seconds = slow_seconds
        self._slow_from = slow_from

    async def send(self, request: Request) -> Outcome:
        """Takes the text in."""
        self.texts.append(request.text)
        await asyncio.sleep(self._slow_seconds if len(self.texts) > self._slow_from else 0.0)
        return Outcome(status="OK")

    async def refuse(self, request: Request) -> Outcome:
        """What a call with a deadline gets that is too short for its text."""
        return Outcome(status="DEADLINE_EXCEEDED")


def subject_of(server: Server) -> Subject:
    """Short phases with a handful of calls each."""
    return Subject(
        send=server.send,
        send_patiently=server.send,
        capacity=Capacity(alone_seconds=0.01, alone_slow_seconds=0.02, per_second=200.0),
        limit_seconds=0.1,
        seconds=0.2,
        seed=7,
        texts=default_texts(7),
    )


async def test_before_and_after_a_burst_the_server_is_asked_the_same() -> None:
    """As many calls with the same texts in the same order, so that their medians can be compared."""
    server = Server()
    subject = subject_of(server)
    result = await burst(subject)
    phases = [subject.warm_up(load=0.3), subject.phase("light", load=0.3, length=0.5)]
    count = len(phased_arrivals(phases, seed=subject.seed))
    assert [phase.name for phase in result.phases] == ["before", "burst", "recovery", "after"]
    assert result.phases[0].summary.calls == result.phases[-1].summary.calls > 0
    assert server.texts[:count] == server.texts[-count:]
    assert len(server.texts) > 2 * count


async def test_overload_sends_texts_of_like_length_alone() -> None:
    """Whichever calls get through, characters say the same as calls, so that both have the same bounds."""
    server = Server()
    result = await overload(subject_of(server))
    lengths = [len(text) for text in server.texts]
    assert max(lengths) <= 1.5 * min(lengths)
    bounds = {threshold.name: threshold.least for threshold in result.thresholds}
    assert bounds == {
        f"overload: goodput in {unit} at {load} over the peak": least
        for unit in ("calls", "characters")
        for load, least in (("2x", 0.85), ("5x", 0.7), ("10x", 0.7))
    }


@pytest.mark.parametrize("scenario", [steady, soak])
async def test_a_text_longer_than_the_limit_is_no_failure_at_half_the_load(
    scenario: Callable[[Subject], Awaitable[ScenarioResult]],
) -> None:
    """The limit follows usual calls, and a document takes longer; what must hold there is that nothing grows."""
    server = Server()
    result = await scenario(replace(subject_of(server), seconds=0.1, send=server.refuse))
    (answered,) = [threshold for threshold in result.thresholds if threshold.name.endswith("answered")]
    assert answered.value == 1.0
    assert server.texts


@pytest.mark.parametrize(("scenario", "name"), [(steady, "steady"), (soak, "soak")])
async def test_a_server_that_takes_many_limits_fails(
    scenario: Callable[[Subject], Awaitable[ScenarioResult]], name: str
) -> None:
    """Waiting patiently for documents does not excuse a server that is slow: every call takes ten times the limit."""
    server = Server(slow_seconds=0.1)
    result = await scenario(replace(subject_of(server), seconds=0.1, limit_seconds=0.01))
    held = {threshold.name: threshold.holds for threshold in result.thresholds}
    assert held[f"{name}: answered"] is True
    assert held[f"{name}: p99 over the limit"] is False


@pytest.mark.parametrize("scenario", [ramp, options])
async def test_a_server_that_answers_nothing_in_time_fails_and_is_reported(
    scenario: Callable[[Subject], Awaitable[ScenarioResult]],
) -> None:
    """Nothing can be divided by what it did; its thresholds do not hold, and the phases are there to be looked at."""
    server = Server()
    result = await scenario(replace(subject_of(server), seconds=0.05, send=server.refuse))
    assert not any(threshold.holds for threshold in result.thresholds)
    assert result.phases


async def test_a_soak_fails_when_the_tail_grows() -> None:
    """Halfway through, every call begins to take much longer: the later half's p99 tells."""
    counted = Server()
    await soak(replace(subject_of(counted), seconds=0.1))
    slowing = Server(slow_seconds=0.1, slow_from=len(counted.texts) // 2)
    subject = replace(subject_of(slowing), seconds=0.1)
    held = {threshold.name: threshold.holds for threshold in (await soak(subject)).thresholds}
    assert held["soak: p99 later over earlier"] is False
    assert held["soak: answered"] is True


def test_texts_near_the_mean_length_are_worth_a_usual_one() -> None:
    """A tenth of all, at least one, and as long on average, so that the capacity found with all holds for them."""
    texts = default_texts(0)
    near = texts_near_mean_length(texts)
    assert len(near) == len(texts) // 10
    mean, of_near = (sum(map(len, each)) / len(each) for each in (texts, near))
    assert 0.9 <= of_near / mean <= 1.1
    assert texts_near_mean_length(("a", "abc", "abcdefgh")) == ("abc",)
