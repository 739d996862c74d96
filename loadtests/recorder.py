"""What a phase of a run measured: latencies, goodput, calls by status and kind, and the generator's own lag."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from loadtests.latencies import Latencies
from loadtests.target import PHASES, Outcome

Milliseconds = dict[str, float]
"""Quantiles by name, p50 to p99.9, with mean and max."""
STACK = ("generator lag", "network and edge", *PHASES, "between phases")
"""What the mean latency is made of, in the order in which it passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call with the length of its text. Times are seconds since the run began."""

    intended: float
    sent: float
    ended: float
    outcome: Outcome
    kind: str = ""
    characters: int = 0

    @property
    def latency(self) -> float:
        """Seconds from when it was meant to be sent to its end."""
        return self.ended - self.intended


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A phase in numbers. Latencies are those of answered calls; `goodput` counts answers within the limit.

    Rates are per second of arrivals; the goodput in source characters does not rise when only short texts get through.
    `phases` is the mean of each part of STACK in milliseconds.
    """

    calls: int
    statuses: dict[str, int]
    answered_per_second: float
    goodput_per_second: float
    good_characters_per_second: float
    latency_milliseconds: Milliseconds | None
    latency_by_kind: dict[str, Milliseconds]
    latency_by_failure: dict[str, Milliseconds]
    first_text_milliseconds: Milliseconds | None
    phases: dict[str, float]
    generator_lag_milliseconds: Milliseconds | None

    @property
    def answered_share(self) -> float:
        """Answered calls among all; 1 where there was none."""
        return self.statuses.get("OK", 0) / self.calls if self.calls else 1.0


class Recorder:
    """Collects calls. Latency counts from the time a call was meant to be sent, not from when it was."""

    def __init__(self, *, limit_seconds: float = float("inf")) -> None:
        self._limit_seconds = limit_seconds
        self._latencies = Latencies()
        self._lags = Latencies()
        self._first_texts = Latencies()
        self._by_kind: defaultdict[str, Latencies] = defaultdict(Latencies)
        self._by_failure: defaultdict[str, Latencies] = defaultdict(Latencies)
        self._statuses: Counter[str] = Counter()
        self._good = self._good_characters = 0
        self._phase_seconds = [0.0] * len(STACK)

    def add(self, call: Call) -> None:
        """Take one call in."""
        outcome = call.outcome
        self._lags.add(call.sent - call.intended)
        self._statuses[outcome.status] += 1
        if outcome.status != "OK":
            self._by_failure[outcome.status].add(call.latency)
            return
        self._latencies.add(call.latency)
        self._by_kind[call.kind].add(call.latency)
        if call.latency <= self._limit_seconds:
            self._good += 1
            self._good_characters += call.characters
        if outcome.first_text_seconds is not None:
            self._first_texts.add(outcome.first_text_seconds)
        if outcome.phases is not None and outcome.server_seconds is not None:
            lag, server = call.sent - call.intended, outcome.server_seconds
            between = server - sum(outcome.phases)
            stack = (lag, call.latency - lag - server, *outcome.phases, between)
            for place, seconds in enumerate(stack):
                self._phase_seconds[place] += seconds

    def summary(self, *, seconds: float) -> Summary:
        """The numbers of `seconds` of arrivals."""
        answered = self._statuses["OK"]
        return Summary(
            calls=sum(self._statuses.values()),
            statuses={status: count for status, count in sorted(self._statuses.items()) if count},
            answered_per_second=answered / seconds,
            goodput_per_second=self._good / seconds,
            good_characters_per_second=self._good_characters / seconds,
            latency_milliseconds=self._latencies.milliseconds(),
            latency_by_kind=_by_name(self._by_kind),
            latency_by_failure=_by_name(self._by_failure),
            first_text_milliseconds=self._first_texts.milliseconds(),
            phases={
                name: 1e3 * total / max(1, answered) for name, total in zip(STACK, self._phase_seconds, strict=True)
            },
            generator_lag_milliseconds=self._lags.milliseconds(),
        )


def _by_name(histograms: dict[str, Latencies]) -> dict[str, Milliseconds]:
    return {name: found for name, each in sorted(histograms.items()) if (found := each.milliseconds()) is not None}
