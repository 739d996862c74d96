"""A recorded day again: calls at the times of a trace."""

from __future__ import annotations

from pathlib import Path

from loadtests.arrivals import Phase, trace_arrivals
from loadtests.measurement import measure
from loadtests.request import GREEDY, Part, draw_requests
from loadtests.scenarios.subject import ScenarioResult, Subject
from loadtests.thresholds import Threshold


async def trace(subject: Subject, path: Path) -> ScenarioResult:
    """Calls at the times that `path` holds. Raises DataError."""
    arrivals = trace_arrivals(path)
    seconds = max(arrivals[-1], 1.0)
    phase = Phase(name="trace", rate=len(arrivals) / seconds, seconds=seconds)
    requests = draw_requests([Part(weight=1.0, kind=GREEDY, texts=subject.texts)], seed=subject.seed)
    phases = await measure(
        subject.send,
        [phase],
        arrivals,
        requests,
        limit_seconds=subject.limit_seconds,
        servers_are_ours=subject.process is not None,
    )
    answered = Threshold(name="trace: answered", value=phases[0].summary.answered_share, least=0.99)
    return ScenarioResult(name="trace", phases=phases, thresholds=[answered])
