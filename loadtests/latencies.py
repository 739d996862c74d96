"""Durations in an HDR histogram."""

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
