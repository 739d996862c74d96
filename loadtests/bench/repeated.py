"""`python -m loadtests.bench.repeated FIRST SECOND`: did a second run find what the first one expects of it?

Both are JSON results of `make bench` or `make bench-peers` with the same settings on the same machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from loadtests.bench.statistics import second_run
from service.errors import DataError, DragomanError

Ratios = Mapping[str, Sequence[float]]
"""The rounds of each ratio, by what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """A ratio's median in both runs, and the range in which the first expects the second's."""

    name: str
    first: float
    expected: tuple[float, float]
    second: float

    @property
    def found(self) -> bool:
        """Whether the second median lies there."""
        least, largest = self.expected
        return least <= self.second <= largest


def read_ratios(path: Path) -> Ratios:
    """The ratios of a run.

    Raises:
        DataError: when the file is not a run's JSON.
    """
    try:
        ratios = json.loads(path.read_text(encoding="utf-8"))["ratios"]
        return {str(name): [float(ratio) for ratio in rounds] for name, rounds in ratios.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: missing, or not the JSON of a run with ratios") from None


def repeated(first: Ratios, second: Ratios) -> list[Repeated]:
    """What both runs have with two rounds or more in the first."""
    common = [(name, rounds, second_run(rounds)) for name, rounds in first.items() if second.get(name)]
    return [
        Repeated(name=name, first=median(rounds), expected=expected, second=median(second[name]))
        for name, rounds, expected in common
        if expected is not None
    ]


def markdown(found: Sequence[Repeated]) -> str:
    """A line for each ratio, and how many lie where they were expected."""
    lines = ["| ratio | first run | expected | second run | |", "|---|---|---|---|---|"]
    for each in found:
        least, largest = each.expected
        remark = "" if each.found else "outside"
        lines.append(f"| {each.name} | {each.first:.2f} | {least:.2f}-{largest:.2f} | {each.second:.2f} | {remark} |")
    inside = sum(each.found for each in found)
    return "\n".join(
        [*lines, "", f"{inside} of {len(found)} where the first run expects them; 19 of 20 would be usual"]
    )


def main() -> int:
    """Exit code 0: both runs were read, whatever they say; 2: they were not."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.repeated", description=__doc__)
    parser.add_argument("first", type=Path, metavar="FIRST")
    parser.add_argument("second", type=Path, metavar="SECOND")
    arguments = parser.parse_args()
    try:
        print(markdown(repeated(read_ratios(arguments.first), read_ratios(arguments.second))))
    except DragomanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
