"""What a run must hold: values, ratios as a rule, with the least or the most that they may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A value and its bounds; what is not a number has failed."""

    name: str
    value: float
    least: float = float("-inf")
    most: float = float("inf")

    @property
    def holds(self) -> bool:
        """Whether the value lies within its bounds."""
        return self.least <= self.value <= self.most

    def describe(self) -> str:
        """One line for the terminal and the report."""
        least = f" >= {self.least:g}" if self.least > float("-inf") else ""
        most = f" <= {self.most:g}" if self.most < float("inf") else ""
        return f"{'holds ' if self.holds else 'FAILED'} {self.name}: {self.value:.3g}{least}{most}"


def ratio(value: float | None, to: float | None) -> float:
    """`value` over `to`; not a number where one of them is missing or nothing can be divided."""
    return value / to if value is not None and to else float("nan")
