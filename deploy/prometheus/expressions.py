"""The rules' two forms, recorded and alerting, and the PromQL that several of them ask."""

from __future__ import annotations

from collections.abc import Iterable

from deploy.prometheus.objectives import WAITED_FOR, BurnRate, LatencyObjective

RUNBOOK = "docs/runbooks.md"

Rule = dict[str, object]


def record(name: str, expression: str) -> Rule:
    """A recording rule."""
    return {"record": name, "expr": expression}


def alert(name: str, expression: str, *, severity: str, summary: str, lasting: str) -> Rule:
    """An alert with its runbook section, which has the alert's name for a heading."""
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "runbook_url": f"{RUNBOOK}#{name.lower()}"},
    }


def quantile(share: float, metric: str, labels: str) -> str:
    """Query for a quantile of a histogram over five minutes, apart by `labels`."""
    return f"histogram_quantile({share:g}, sum by (le, {labels}) (rate({metric}_bucket[5m])))"


def share_of_calls(code: str, window: str) -> str:
    """Query for the share of all calls that ended with one of the codes."""
    return (
        f'sum(rate(dragoman_requests_total{{code=~"{code}"}}[{window}])) / sum(rate(dragoman_requests_total[{window}]))'
    )


def slow_share(objective: LatencyObjective, window: str) -> str:
    """Query for the share of a class's answered calls that took longer than they should."""
    selector = f'method=~"{WAITED_FOR}",length_class="{objective.length_class}"'
    fast = f'dragoman_request_seconds_bucket{{{selector},le="{objective.seconds}"}}'
    total = f"dragoman_request_seconds_count{{{selector}}}"
    by = "sum by (length_class)"
    return f"1 - {by} (rate({fast}[{window}])) / {by} (rate({total}[{window}]))"


def burning(ratio: str, budget: float, rates: Iterable[BurnRate], selector: str = "") -> str:
    """Condition under which an error budget burns too fast; `ratio` is a recording rule's name but for the window."""
    parts = []
    for rate in rates:
        limit = f"{rate.factor * budget:.6g}"
        parts.append(f"({ratio}_{rate.long}{selector} > {limit} and {ratio}_{rate.short}{selector} > {limit})")
    return " or ".join(parts)
