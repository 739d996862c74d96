"""The rows on calls: whether the objectives hold, and where the time of a call goes."""

from __future__ import annotations

from deploy.grafana.queries import Panel, by_length_class, mean, quantiles, rate_by
from deploy.prometheus.objectives import AVAILABILITY, LATENCY, PERIOD_DAYS

TRAFFIC = (
    Panel(title="Calls by code", unit="reqps", queries=rate_by("code", "dragoman_requests_total")),
    Panel(
        title="Calls in flight",
        unit="short",
        queries=(("sum by (method) (dragoman_requests_in_flight)", "{{method}}"),),
    ),
    Panel(
        title="Faults of the service",
        unit="percentunit",
        queries=(
            ("dragoman:errors:ratio_5m", "5 minutes"),
            ("dragoman:errors:ratio_6h", "6 hours"),
            (f"vector({1 - AVAILABILITY:g})", "objective"),
        ),
        description=f"Of all calls; {AVAILABILITY:.1%} must not.",
    ),
    Panel(
        title="Calls slower than their objective",
        unit="percentunit",
        queries=(("dragoman:slow_calls:ratio_5m", "{{length_class}}"),),
        description="; ".join(
            f"{each.length_class}: at most {1 - each.target:.0%} over {each.seconds:g} s" for each in LATENCY
        ),
    ),
    Panel(
        title="Error budget left",
        unit="percentunit",
        queries=(
            (f"1 - avg_over_time(dragoman:errors:ratio_5m[{PERIOD_DAYS}d]) / {1 - AVAILABILITY:g}", "availability"),
            *(
                (
                    f'1 - avg_over_time(dragoman:slow_calls:ratio_5m{{length_class="{each.length_class}"}}'
                    f"[{PERIOD_DAYS}d]) / {1 - each.target:g}",
                    f"latency, {each.length_class}",
                )
                for each in LATENCY
            ),
        ),
        description=f"Of the last {PERIOD_DAYS} days, every five minutes counted alike.",
    ),
    Panel(
        title="Turned away and given up",
        unit="reqps",
        queries=(
            *rate_by("reason", "dragoman_refusals_total"),
            ("sum(rate(dragoman_cancellations_total[$__rate_interval]))", "cancelled by the client"),
        ),
        description="Sentences refused, by reason (bulk work tries again by itself), and calls cancelled.",
    ),
    Panel(
        title="Characters by caller's token",
        unit="short",
        queries=(("sum by (token) (rate(dragoman_token_characters_total[$__rate_interval]))", "{{token}}"),),
    ),
    Panel(
        title="Allowances used up",
        unit="reqps",
        queries=(
            ("sum by (token, limit) (rate(dragoman_token_refusals_total[$__rate_interval]))", "{{token}}: {{limit}}"),
        ),
    ),
    Panel(
        title="Time to a refusal, p99",
        unit="s",
        queries=(
            (
                "histogram_quantile(0.99,"
                " sum by (le, method) (rate(dragoman_refusal_seconds_bucket[$__rate_interval])))",
                "{{method}}",
            ),
        ),
    ),
)

LATENCY_BY_PHASE = (
    Panel(title="p50 by length", unit="s", queries=by_length_class("p50")),
    Panel(title="p95 by length", unit="s", queries=by_length_class("p95")),
    Panel(title="p99 by length", unit="s", queries=by_length_class("p99")),
    Panel(
        title="Mean of each phase",
        unit="s",
        queries=tuple(
            (mean(f"dragoman_{phase}_seconds"), phase)
            for phase in ("queue", "tokenize", "encode", "decode", "detokenize")
        ),
    ),
    Panel(title="Queue", unit="s", queries=quantiles("dragoman_queue_seconds", 0.5, 0.95, 0.99)),
    Panel(title="First token", unit="s", queries=quantiles("dragoman_first_token_seconds", 0.5, 0.95, 0.99)),
    Panel(title="All calls", unit="s", queries=quantiles("dragoman_request_seconds", 0.5, 0.95, 0.99), exemplars=True),
    Panel(
        title="Time to refuse",
        unit="s",
        queries=(
            (
                "histogram_quantile(0.95,"
                " sum by (le, method) (rate(dragoman_refusal_seconds_bucket[$__rate_interval])))",
                "{{method}} p95",
            ),
        ),
        description="Calls that are turned away should learn it at once.",
    ),
    Panel(
        title="Left before the deadline",
        unit="s",
        queries=(
            (
                "histogram_quantile(0.05,"
                " sum by (le) (rate(dragoman_deadline_slack_seconds_bucket[$__rate_interval])))",
                "p5",
            ),
        ),
    ),
)
