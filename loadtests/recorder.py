"""What a run measured: latencies in HDR histograms, calls by status, and how late the generator itself was."""

from collections import Counter
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

QUANTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
# One microsecond to ten minutes with three significant digits.
LARGEST_MICROSECONDS = 600_000_000
SIGNIFICANT_DIGITS = 3


class Latencies:
    """Durations with quantiles that keep three significant digits from a microsecond to ten minutes."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, LARGEST_MICROSECONDS, SIGNIFICANT_DIGITS)

    def add(self, seconds: float) -> None:
        """Record one duration; anything above ten minutes counts as ten minutes."""
        self._histogram.record_value(min(max(round(seconds * 1e6), 1), LARGEST_MICROSECONDS))

    @property
    def count(self) -> int:
        """Durations recorded."""
        return int(self._histogram.get_total_count())

    def milliseconds(self) -> dict[str, float] | None:
        """p50 to p99.9, mean and maximum in milliseconds; None if nothing was recorded."""
        if not self.count:
            return None
        found = {f"p{share:g}": self._histogram.get_value_at_percentile(share) / 1e3 for share in QUANTILES}
        return found | {"mean": self._histogram.get_mean_value() / 1e3, "max": self._histogram.get_max_value() / 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. Times are seconds since the run began; ``status`` is the gRPC status name."""

    intended: float
    sent: float
    ended: float
    status: str


class Recorder:
    """Collects the calls of a run. Latency counts from the time a call was meant to be sent, not from when it was."""

    def __init__(self, *, warmup_seconds: float) -> None:
        self._warmup_seconds = warmup_seconds
        self._latencies = Latencies()
        self._lags = Latencies()
        self._statuses: Counter[str] = Counter()
        self._warmup_calls = 0
        self._last_end = 0.0

    def add(self, call: Call) -> None:
        """Take one call in; calls meant for the warm-up are counted and otherwise left out."""
        if call.intended < self._warmup_seconds:
            self._warmup_calls += 1
            return
        self._lags.add(call.sent - call.intended)
        self._statuses[call.status] += 1
        self._last_end = max(self._last_end, call.ended)
        if call.status == "OK":
            self._latencies.add(call.ended - call.intended)

    def summary(self) -> dict[str, object]:
        """The run in numbers, ready for JSON."""
        seconds = self._last_end - self._warmup_seconds
        answered = self._statuses["OK"]
        return {
            "calls": sum(self._statuses.values()),
            "warmup_calls": self._warmup_calls,
            "statuses": dict(sorted(self._statuses.items())),
            "answered_per_second": answered / seconds if seconds > 0 else 0.0,
            "latency_milliseconds": self._latencies.milliseconds(),
            "generator_lag_milliseconds": self._lags.milliseconds(),
        }
