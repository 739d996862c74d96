"""A whole load test in numbers, as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field

from loadtests.capacity import Capacity
from loadtests.scenarios.subject import ScenarioResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What was run, on what, and what came of it. `ceiling_per_second` is the generator's own, proved beforehand."""

    began: str
    server: str
    settings: dict[str, str]
    hardware: dict[str, object]
    limit_seconds: float
    ceiling_per_second: float
    capacity: Capacity
    scenarios: list[ScenarioResult] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """Thresholds that did not hold."""
        return [each.name for scenario in self.scenarios for each in scenario.thresholds if not each.holds]

    @property
    def invalid(self) -> list[str]:
        """Phases from which nothing can be concluded, with the reason."""
        found = []
        for scenario in self.scenarios:
            for phase in scenario.phases:
                if phase.invalid:
                    found.append(f"{scenario.name}, {phase.name}: {phase.invalid}")
        return found

    def to_json(self) -> str:
        """All of it; a number that is none, or has no bound, is null."""
        fields = asdict(self) | {"failed": self.failed, "invalid": self.invalid}
        return json.dumps(_finite(fields), indent=1) + "\n"


def _finite(value: object) -> object:
    """JSON knows neither infinity nor NaN; five digits are enough of the rest."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
