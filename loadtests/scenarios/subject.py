"""The server under a scenario: how to call it, what it can do, and what counts as a good answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.arrivals import Phase, phased_arrivals
from loadtests.capacity import Capacity
from loadtests.generated_corpus import mixed_texts
from loadtests.measurement import PhaseResult, Send, measure
from loadtests.request import GREEDY, Part, draw_requests
from loadtests.server_process import ServerProcess
from loadtests.thresholds import Threshold

WARM_UP_SHARE = 0.25
CORPUS_SIZE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """`send` calls with a deadline of `limit_seconds`, within which an answer is good, `send_patiently` with one far
    later. `seconds` is the length of a usual phase. `process` is known where the load test started the server itself.
    """

    send: Send
    send_patiently: Send
    capacity: Capacity
    limit_seconds: float
    seconds: float
    seed: int
    texts: tuple[str, ...]
    metrics_url: str | None = None
    process: ServerProcess | None = None

    def phase(self, name: str, *, load: float, length: float = 1.0) -> Phase:
        """A phase at `load` times the capacity, `length` times the usual seconds."""
        return Phase(name=name, rate=load * self.capacity.per_second, seconds=length * self.seconds)

    def warm_up(self, *, load: float, least_seconds: float = 0.0) -> Phase:
        """A short phase that is not measured."""
        rate, seconds = load * self.capacity.per_second, max(least_seconds, WARM_UP_SHARE * self.seconds)
        return Phase(name="warm-up", rate=rate, seconds=seconds, measured=False)

    async def run(
        self, phases: Sequence[Phase], *, parts: Sequence[Part] = (), patiently: bool = False
    ) -> list[PhaseResult]:
        """Run `phases` with a mix of calls; all greedy where none is given."""
        parts = parts or (Part(weight=1.0, kind=GREEDY, texts=self.texts),)
        send = self.send_patiently if patiently else self.send
        requests = draw_requests(parts, seed=self.seed)
        arrivals = phased_arrivals(phases, seed=self.seed)
        return await measure(
            send,
            phases,
            arrivals,
            requests,
            limit_seconds=self.limit_seconds,
            servers_are_ours=self.process is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    """What a scenario measured and whether it held; `facts` are numbers beside the phases."""

    name: str
    phases: list[PhaseResult]
    thresholds: list[Threshold]
    facts: dict[str, float] = field(default_factory=dict)


def quantile(result: PhaseResult, name: str = "p50") -> float | None:
    """A quantile of the latency of a phase's answers in milliseconds; None if there were none."""
    return (result.summary.latency_milliseconds or {}).get(name)


def default_texts(seed: int) -> tuple[str, ...]:
    """The generated corpus of mixed lengths."""
    return mixed_texts(count=CORPUS_SIZE, seed=seed)
