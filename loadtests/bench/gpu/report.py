"""What a run found, line by line and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean

from loadtests.bench.cases import OURS
from loadtests.bench.gpu.cases import rows_of
from loadtests.bench.gpu.measuring import Latencies
from loadtests.bench.gpu.profiles import ProfileSummary
from loadtests.bench.gpu.roofline import Ceilings, TimedRun
from loadtests.bench.measuring import Row
from loadtests.bench.protocol import IdRows
from loadtests.bench.statistics import Spread, round_ratios


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A system in a case. `ratio` is our fast mode's tokens/s over this one's in the same rounds, None for itself;
    `same` the share of sentences with the tokens of our fast mode, None where that did not run."""

    row: Row
    tokens_per_second: Spread
    ratio: Spread | None
    same: float | None

    @property
    def tokens_per_sentence(self) -> float:
        """Mean length of an answer, EOS counted: who stops earlier has less to do."""
        return mean(len(ids) + 1 for ids in self.row.outputs)


@dataclass(slots=True, kw_only=True)
class Measured:
    """Everything that a run found, filled part by part; what was not measured is empty."""

    cases: list[list[Row]] = field(default_factory=list)
    latencies: list[Latencies] = field(default_factory=list)
    memory: list[tuple[str, str, int, int]] = field(default_factory=list)
    """System, search, rows, bytes."""
    ceilings: Ceilings | None = None
    runs: list[TimedRun] = field(default_factory=list)
    profiles: list[tuple[str, int, ProfileSummary]] = field(default_factory=list)
    """Mode, rows, what the profiler said."""

    @property
    def lines(self) -> list[Line]:
        """All rows of all cases."""
        return [line for rows in self.cases for line in lines_of(rows)]


def lines_of(rows: Sequence[Row]) -> list[Line]:
    """The lines of one case."""
    ours = next((row for row in rows if row.system == OURS), None)
    lines = []
    for row in rows:
        rates = [turn.tokens_per_second for turn in row.turns]
        ratio = same = None
        if ours is not None and row is not ours:
            ratio = Spread.of(round_ratios([turn.tokens_per_second for turn in ours.turns], rates))
        if ours is not None:
            same = agreement(ours.outputs, row.outputs)
        lines.append(Line(row=row, tokens_per_second=Spread.of(rates), ratio=ratio, same=same))
    return lines


def agreement(first: IdRows, second: IdRows) -> float:
    """The share of sentences with the same tokens."""
    return mean(one == other for one, other in zip(first, second, strict=True))


def as_json(measured: Measured, *, facts: Mapping[str, object]) -> dict[str, object]:
    """Everything but the translations, ready for JSON."""
    return {
        **facts,
        "ceilings": asdict(measured.ceilings) if measured.ceilings else None,
        "throughput": [_fields(line) for line in measured.lines],
        "latency": [asdict(each) for each in measured.latencies],
        "memory": [
            {"system": system, "search": search, "rows": rows, "bytes": size}
            for system, search, rows, size in measured.memory
        ],
        "runs": [asdict(run) for run in measured.runs],
        "profiles": [{"mode": mode, "rows": rows} | asdict(each) for mode, rows, each in measured.profiles],
    }


def _fields(line: Line) -> dict[str, object]:
    row = line.row
    return {
        "search": asdict(row.case.search),
        "rows": rows_of(row.case),
        "sentences_in_flight": row.case.in_flight,
        "sentences": row.case.sentences,
        "system": row.system,
        "settings": asdict(row.settings),
        "rounds": [asdict(turn) for turn in row.turns],
        "tokens_per_second": asdict(line.tokens_per_second),
        "tokens_per_sentence": line.tokens_per_sentence,
        "ours_over_this": asdict(line.ratio) if line.ratio else None,
        "same_tokens_as_ours": line.same,
    }
