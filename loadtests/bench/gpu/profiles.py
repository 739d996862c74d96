"""ONNX Runtime's profile of some runs, summed up: kernels in a run, how long the device was busy, and the gaps.

A profile is a list of trace events; times are whole microseconds. "Session" events named model_run are the runs,
"Node" events named ..._kernel_time the nodes as the host sees them, which on a GPU is their launch. "Kernel" events are
what the GPU did; only builds of ONNX Runtime that have CUPTI write them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypedDict

from service.errors import DataError

_RUN, _NODE_SUFFIX = "model_run", "_kernel_time"
_MICROSECOND = 1e-6
_SHOWN_OPERATORS = 12


class Event(TypedDict, total=False):
    """What is read of a trace event."""

    cat: str
    name: str
    ts: int
    dur: int
    args: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSummary:
    """Medians over `runs` runs; seconds.

    `kernels` is None where the build writes no kernels: then `busy_seconds` are the nodes' as the host sees them.
    `gaps` counts the times in a run when nothing ran, `gap_seconds` is all of them, `longest_gap_seconds` the worst.
    `operators` are shares of the busy time, the largest first; `nodes_by_provider` and `copies` (nodes that move data
    between host and device) are of one run.
    """

    runs: int
    nodes: int
    kernels: int | None
    run_seconds: float
    busy_seconds: float
    gaps: int
    gap_seconds: float
    longest_gap_seconds: float
    nodes_by_provider: dict[str, int]
    copies: int
    operators: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: its span, its nodes, and what the device did, in order of time."""

    begin: int
    end: int
    nodes: list[Event]
    work: list[Event]


def read_profile(path: Path) -> list[Event]:
    """Read the file that ONNX Runtime writes; raises DataError when it is not one."""
    try:
        events = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError):
        raise DataError(f"{path}: not a profile of ONNX Runtime") from None
    if not isinstance(events, list):
        raise DataError(f"{path}: not a profile of ONNX Runtime")
    return events


def summary(events: Sequence[Event], *, skipped: int = 0) -> ProfileSummary:
    """Sum up the runs of a profile but the first `skipped`; raises DataError when none is left."""
    runs = _runs(events)[skipped:]
    if not runs:
        raise DataError(f"a profile without runs beyond the first {skipped}")
    has_kernels = any(event.get("cat") == "Kernel" for event in events)
    gaps = [_gaps(run) for run in runs]
    last = runs[-1]
    operators: Counter[str] = Counter()
    for run in runs:
        for event in run.work:
            operators[_operator(event)] += event["dur"]
    total = max(1, operators.total())
    return ProfileSummary(
        runs=len(runs),
        nodes=len(last.nodes),
        kernels=round(median(len(run.work) for run in runs)) if has_kernels else None,
        run_seconds=median(run.end - run.begin for run in runs) * _MICROSECOND,
        busy_seconds=median(run.end - run.begin - sum(each) for run, each in zip(runs, gaps, strict=True))
        * _MICROSECOND,
        gaps=round(median(map(len, gaps))),
        gap_seconds=median(map(sum, gaps)) * _MICROSECOND,
        longest_gap_seconds=median(max(each, default=0) for each in gaps) * _MICROSECOND,
        nodes_by_provider=dict(Counter(node["args"].get("provider", "unknown") for node in last.nodes)),
        copies=sum(_operator(node).startswith("Memcpy") for node in last.nodes),
        operators={name: round(spent / total, 4) for name, spent in operators.most_common(_SHOWN_OPERATORS)},
    )


def _runs(events: Sequence[Event]) -> list[_Run]:
    """The runs in order; work belongs to the run in which it began."""
    spans = sorted(
        (event["ts"], event["ts"] + event["dur"])
        for event in events
        if event.get("cat") == "Session" and event.get("name") == _RUN
    )
    nodes = [each for each in events if each.get("cat") == "Node" and each.get("name", "").endswith(_NODE_SUFFIX)]
    kernels = [each for each in events if each.get("cat") == "Kernel"]
    runs = []
    for begin, end in spans:
        mine = [node for node in nodes if begin <= node["ts"] < end]
        work = [kernel for kernel in kernels if begin <= kernel["ts"] < end] if kernels else mine
        runs.append(_Run(begin, end, mine, sorted(work, key=lambda event: event["ts"])))
    return runs


def _gaps(run: _Run) -> list[int]:
    """Microseconds of every stretch of a run, its ends included, in which nothing ran; work may overlap."""
    gaps: list[int] = []
    until = run.begin
    for event in run.work:
        if event["ts"] > until:
            gaps.append(event["ts"] - until)
        until = max(until, event["ts"] + event["dur"])
    if run.end > until:
        gaps.append(run.end - until)
    return gaps


def _operator(event: Event) -> str:
    """The operator that an event belongs to; a kernel of none goes by its own name."""
    return event.get("args", {}).get("op_name") or event.get("name", "unknown")
