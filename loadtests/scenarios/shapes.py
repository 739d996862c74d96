"""Scenarios that differ in how the rate goes over time: steady, ramp, burst, soak, overload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from loadtests.arrivals import Phase
from loadtests.measurement import PhaseResult
from loadtests.request import GREEDY, Part
from loadtests.scenarios.subject import ScenarioResult, Subject, quantile
from loadtests.thresholds import Threshold, ratio

RAMP = (0.1, 0.25, 0.5, 0.7, 0.85, 1.0, 1.2)
OVERLOAD = (1.0, 2.0, 5.0, 10.0)
LEAST_OVER_PEAK = (0.85, 0.7, 0.7)
"""Of the goodput at each load of OVERLOAD above the first."""
SOAK_WINDOWS = 8
DOCUMENT_LIMITS = 3.0
"""How many of a usual call's limits a document may take, at half of what the server can do."""
KNEE_SHARE = 0.99
"""A rate is carried when this share of its calls is answered within the limit."""


async def steady(subject: Subject) -> ScenarioResult:
    """Half of what the server can do: everything is answered, with a tail that stays near the median."""
    # Patiently here and in the soak: the limit follows usual calls, and a document of eight sentences has some of them.
    phases = await subject.run([subject.warm_up(load=0.5), subject.phase("steady", load=0.5)], patiently=True)
    thresholds = [
        Threshold(name="steady: answered", value=phases[0].summary.answered_share, least=0.99),
        Threshold(name="steady: p99 over the limit", value=_over_limit(phases, subject), most=DOCUMENT_LIMITS),
        Threshold(name="steady: p99 over p50", value=ratio(quantile(phases[0], "p99"), quantile(phases[0])), most=20),
    ]
    return ScenarioResult(name="steady", phases=phases, thresholds=thresholds)


async def ramp(subject: Subject) -> ScenarioResult:
    """Rising rates, each with its own start, to find the knee: the highest that is carried."""
    phases: list[PhaseResult] = []
    for load in RAMP:
        phases += await subject.run([subject.warm_up(load=load), subject.phase(f"{load:g}x", load=load)])
    carried = [phase for phase in phases if _good_share(phase) >= KNEE_SHARE]
    knee = max((phase.offered_per_second for phase in carried), default=0.0)
    left = ratio(_goodput(phases[-1]), max(map(_goodput, phases)))
    thresholds = [
        Threshold(name="ramp: knee over capacity", value=knee / subject.capacity.per_second, least=0.4),
        Threshold(name="ramp: goodput at the last rate over the peak", value=left, least=0.7),
    ]
    return ScenarioResult(name="ramp", phases=phases, thresholds=thresholds, facts={"knee_per_second": knee})


async def burst(subject: Subject) -> ScenarioResult:
    """Three times the capacity for a moment amid a light load: afterwards the same calls fare as they did before it."""
    # Runs of their own, as equal runs have equal arrivals and texts: a few dozen others have another median.
    (before,) = await subject.run(_light("before", subject))
    during, recovery = await subject.run(
        [
            subject.warm_up(load=0.3),
            subject.phase("burst", load=3.0, length=0.25),
            # What the burst left behind, before things are looked at again.
            subject.phase("recovery", load=0.3, length=0.5),
        ]
    )
    (after,) = await subject.run(_light("after", subject))
    thresholds = [
        Threshold(name="burst: p50 after over before", value=ratio(quantile(after), quantile(before)), most=2),
        Threshold(
            name="burst: wait after over latency before", value=ratio(_wait(after), quantile(before, "mean")), most=0.25
        ),
        Threshold(name="burst: answered afterwards", value=after.summary.answered_share, least=0.99),
        Threshold(name="burst: goodput over capacity", value=_goodput(during) / subject.capacity.per_second, least=0.5),
    ]
    return ScenarioResult(name="burst", phases=[before, during, recovery, after], thresholds=thresholds)


def _light(name: str, subject: Subject) -> list[Phase]:
    return [subject.warm_up(load=0.3), subject.phase(name, load=0.3, length=0.5)]


async def soak(subject: Subject) -> ScenarioResult:
    """A usual load for long: neither latency, in the middle or in the tail, nor memory grows."""
    windows = [subject.phase(f"window {number + 1}", load=0.5) for number in range(SOAK_WINDOWS)]
    await subject.run([subject.warm_up(load=0.5)], patiently=True)
    memory = subject.process.memory_bytes() if subject.process else None
    phases = await subject.run(windows, patiently=True)
    tails = [quantile(phase, "p99") or 0.0 for phase in phases]
    half = SOAK_WINDOWS // 2
    thresholds = [
        Threshold(name="soak: p50 last over first", value=ratio(quantile(phases[-1]), quantile(phases[0])), most=1.5),
        # A window's p99 is that of its few documents and may be twice its neighbour's.
        Threshold(name="soak: p99 later over earlier", value=ratio(median(tails[half:]), median(tails[:half])), most=2),
        Threshold(name="soak: p99 over the limit", value=_over_limit(phases, subject), most=DOCUMENT_LIMITS),
        Threshold(name="soak: answered", value=min(phase.summary.answered_share for phase in phases), least=0.99),
    ]
    if subject.process is not None and memory is not None:
        growth = ratio(subject.process.memory_bytes(), memory)
        thresholds.append(Threshold(name="soak: memory at the end over the start", value=growth, most=1.1))
    return ScenarioResult(name="soak", phases=phases, thresholds=thresholds)


async def overload(subject: Subject) -> ScenarioResult:
    """Far more than can be done: the goodput stays near its peak, as what cannot be done in time is refused at once.

    Texts are of like length: of others the long ones are refused first, and calls and characters would disagree.
    """
    parts = [Part(weight=1.0, kind=GREEDY, texts=texts_near_mean_length(subject.texts))]
    phases: list[PhaseResult] = []
    for load in OVERLOAD:
        # At 2x what waits grows by a second each second, up to the limit; measured while it grows, 2x seems better.
        warm_up = subject.warm_up(load=load, least_seconds=subject.limit_seconds)
        phases += await subject.run([warm_up, subject.phase(f"{load:g}x", load=load)], parts=parts)
    thresholds: list[Threshold] = []
    for unit, measure in (("calls", _goodput), ("characters", _good_characters)):
        peak = max(map(measure, phases))
        thresholds += [
            Threshold(
                name=f"overload: goodput in {unit} at {phase.name} over the peak",
                value=ratio(measure(phase), peak),
                least=least,
            )
            for phase, least in zip(phases[1:], LEAST_OVER_PEAK, strict=True)
        ]
    return ScenarioResult(name="overload", phases=phases, thresholds=thresholds)


def texts_near_mean_length(texts: Sequence[str]) -> tuple[str, ...]:
    """The tenth of `texts` whose length is nearest the mean: calls alike, and each as much work as a usual one."""
    mean = sum(map(len, texts)) / len(texts)
    nearest = sorted(texts, key=lambda text: abs(len(text) - mean))
    return tuple(nearest[: max(1, len(texts) // 10)])


def _over_limit(phases: Sequence[PhaseResult], subject: Subject) -> float:
    """The largest p99 of `phases` over the limit; not a number, which fails, where a phase has no answers."""
    return max((ratio(quantile(phase, "p99"), 1e3 * subject.limit_seconds) for phase in phases), key=_nan_first)


def _nan_first(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _goodput(phase: PhaseResult) -> float:
    return phase.summary.goodput_per_second


def _wait(phase: PhaseResult) -> float | None:
    """Mean milliseconds in the queue; None when nothing was answered."""
    return phase.summary.phases.get("queue")


def _good_characters(phase: PhaseResult) -> float:
    return phase.summary.good_characters_per_second


def _good_share(phase: PhaseResult) -> float:
    return ratio(phase.summary.goodput_per_second, phase.sent_per_second)
