"""What the service promises: the objectives from which rules and dashboard are generated. Edit them here."""

from __future__ import annotations

from dataclasses import dataclass

PERIOD_DAYS = 30
AVAILABILITY = 0.999
# Faults of the service alone: what the caller did wrong, cancelled or set too short a deadline for is not one.
FAULTS = "INTERNAL|UNAVAILABLE|UNKNOWN|DATA_LOSS"
# Calls that somebody waits for as a whole; streams are watched by their first token, bulk by nobody.
WAITED_FOR = "Translate|TranslateText"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyObjective:
    """A share `target` of the answered calls of a length class takes at most `seconds`, a bucket of the histogram.

    Long documents take what they take: only those classes page somebody for which `pages` says so.
    """

    length_class: str
    seconds: float
    target: float
    pages: bool


LATENCY = (
    LatencyObjective(length_class="short", seconds=1.0, target=0.99, pages=True),
    LatencyObjective(length_class="medium", seconds=5.0, target=0.99, pages=True),
    LatencyObjective(length_class="long", seconds=10.0, target=0.95, pages=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRate:
    """The budget burns at `factor` times the even rate, over a long window and still in the short one."""

    factor: float
    long: str
    short: str


# The SRE workbook's windows: 2% of the month's budget in an hour, 5% in six; 10% in a day, or in three.
PAGE = (BurnRate(factor=14.4, long="1h", short="5m"), BurnRate(factor=6, long="6h", short="30m"))
TICKET = (BurnRate(factor=3, long="1d", short="2h"), BurnRate(factor=1, long="3d", short="6h"))
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
