"""What a panel of the dashboard is, and the PromQL that several of them ask."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.prometheus.objectives import WAITED_FOR

SELECTOR = '{model=~"$model"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph over time: (PromQL, legend) pairs and the unit of their values."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""
    exemplars: bool = False


def quantiles(metric: str, *shares: float) -> tuple[tuple[str, str], ...]:
    """Queries for quantiles of the histogram ``metric`` over all replicas."""
    rate = f"sum by (le) (rate({metric}_bucket{SELECTOR}[$__rate_interval]))"
    return tuple((f"histogram_quantile({share:g}, {rate})", f"p{100 * share:g}") for share in shares)


def mean(metric: str) -> str:
    """Query for the mean of the histogram ``metric``."""
    total = f"sum(rate({metric}_sum{SELECTOR}[$__rate_interval]))"
    return f"{total} / sum(rate({metric}_count{SELECTOR}[$__rate_interval]))"


def rate_by(label: str, metric: str) -> tuple[tuple[str, str], ...]:
    """The rate of a counter, one line per value of ``label``."""
    return ((f"sum by ({label}) (rate({metric}{SELECTOR}[$__rate_interval]))", f"{{{{{label}}}}}"),)


def share_of(used: str, there: str) -> str:
    """Query for the share of a gauge in another."""
    return f"sum({used}{SELECTOR}) / sum({there}{SELECTOR})"


def by_length_class(share: str) -> tuple[tuple[str, str], ...]:
    """The recorded latency quantile of unary calls, a line per length class."""
    return ((f'dragoman:request_seconds:{share}_5m{{method=~"{WAITED_FOR}"}}', "{{method}} {{length_class}}"),)
