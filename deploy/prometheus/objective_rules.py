"""What is recorded for people and the dashboard, and the alerts on the budgets of the objectives."""

from __future__ import annotations

from deploy.prometheus.expressions import Rule, alert, burning, quantile, record, share_of_calls, slow_share
from deploy.prometheus.objectives import AVAILABILITY, FAULTS, LATENCY, PAGE, TICKET, WINDOWS


def recorded() -> list[Rule]:
    """What the dashboard and people ask for often."""
    return [
        record("dragoman:request_seconds:p50_5m", quantile(0.5, "dragoman_request_seconds", "method, length_class")),
        record("dragoman:request_seconds:p95_5m", quantile(0.95, "dragoman_request_seconds", "method, length_class")),
        record("dragoman:request_seconds:p99_5m", quantile(0.99, "dragoman_request_seconds", "method, length_class")),
        record("dragoman:queue_seconds:p95_5m", quantile(0.95, "dragoman_queue_seconds", "model")),
        record("dragoman:first_token_seconds:p95_5m", quantile(0.95, "dragoman_first_token_seconds", "model")),
        record("dragoman:target_tokens:rate_5m", "sum by (model) (rate(dragoman_target_tokens_total[5m]))"),
        record(
            "dragoman:row_slots:used_ratio",
            "sum by (model) (dragoman_row_slots_used) / sum by (model) (dragoman_row_slots)",
        ),
        record(
            "dragoman:queue_tokens:per_replica",
            "sum by (model) (dragoman_queue_tokens) / count by (model) (dragoman_queue_tokens)",
        ),
    ]


def availability() -> list[Rule]:
    """The objective on faults, and its alerts."""
    ratio, budget = "dragoman:errors:ratio", 1 - AVAILABILITY
    promise = f"{AVAILABILITY:.1%}"
    return [
        *(record(f"{ratio}_{window}", share_of_calls(FAULTS, window)) for window in WINDOWS),
        alert(
            "DragomanErrorBudgetBurnsFast",
            burning(ratio, budget, PAGE),
            severity="page",
            lasting="2m",
            summary="{{ $value | humanizePercentage }} of calls fail by the service's own fault; "
            + promise
            + " must not",
        ),
        alert(
            "DragomanErrorBudgetBurnsSlowly",
            burning(ratio, budget, TICKET),
            severity="ticket",
            lasting="15m",
            summary="{{ $value | humanizePercentage }} of calls have failed by the service's own fault for hours",
        ),
    ]


def latency() -> list[Rule]:
    """The objective of each length class, and its alerts."""
    ratio = "dragoman:slow_calls:ratio"
    rules = [
        record(f"{ratio}_{window}", " or ".join(slow_share(each, window) for each in LATENCY)) for window in WINDOWS
    ]
    summary = "{{ $value | humanizePercentage }} of {{ $labels.length_class }} calls take longer than they should"
    for name, severity, rates, lasting in (
        ("DragomanLatencyBudgetBurnsFast", "page", PAGE, "2m"),
        ("DragomanLatencyBudgetBurnsSlowly", "ticket", TICKET, "15m"),
    ):
        conditions = [
            burning(ratio, 1 - each.target, rates, f'{{length_class="{each.length_class}"}}')
            for each in LATENCY
            if severity != "page" or each.pages
        ]
        rules.append(alert(name, " or ".join(conditions), severity=severity, lasting=lasting, summary=summary))
    return rules
