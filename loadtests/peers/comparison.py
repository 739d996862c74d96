"""What is compared and what came of it: the plan, a server's results, and all of them as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.capacity import Capacity
from loadtests.measurement import PhaseResult
from loadtests.peers.systems import Setup
from loadtests.request import Kind

KINDS = {
    "greedy": Kind(name="greedy", length_penalty=1.0),
    "beam4": Kind(name="beam4", beam_size=4, length_penalty=0.0, stops_at_best=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is compared: a search, loads over CTranslate2's closed-loop throughput, how long each is kept up and how
    often, the languages, and the seed of arrivals and texts. An answer is good within `limit_factor` times what
    CTranslate2 takes for a call that is alone. No further round begins that would end after `budget_seconds`."""

    search: str
    systems: Sequence[str]
    loads: Sequence[float]
    rounds: int
    seconds: float
    sweep_seconds: float
    in_flight: int
    limit_factor: float
    source: str
    target: str
    seed: int
    budget_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemResult:
    """One server: its set-up, what it can do in a closed loop, its most memory, and its phases: round by round one for
    each load, named after the load."""

    system: str
    setup: Setup
    capacity: Capacity
    peak_memory_bytes: int | None
    rounds: list[list[PhaseResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All servers under one search; an answer within `limit_seconds` is good, and that is every call's deadline."""

    search: str
    began: str
    limit_seconds: float
    others_cpu_share: float | None
    systems: list[SystemResult]
