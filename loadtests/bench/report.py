"""The run as a table for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from loadtests.bench.cases import OURS
from loadtests.bench.measuring import Row, Turn
from loadtests.bench.quality import Quality
from loadtests.bench.statistics import Spread, round_ratios, second_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A judged row; `ratio` is our throughput over this system's in the same rounds, None for ourselves."""

    row: Row
    quality: Quality
    ratio: Spread | None
    ratios: tuple[float, ...]
    counted: bool

    @property
    def sentences_per_second(self) -> Spread:
        """Throughput over the rounds."""
        return Spread.of([turn.sentences_per_second for turn in self.row.turns])

    @property
    def tokens_per_second(self) -> Spread:
        """Target tokens per second over the rounds."""
        return Spread.of([turn.tokens_per_second for turn in self.row.turns])


def lines_of(case_rows: Sequence[Row], qualities: Sequence[Quality]) -> list[Line]:
    """The lines of one case; a ratio counts when both of its rows do."""
    ours = next((index for index, row in enumerate(case_rows) if row.system == OURS), None)
    lines = []
    for row, quality in zip(case_rows, qualities, strict=True):
        ratios: list[float] = []
        counted = quality.counted
        if ours is not None and row.system != OURS:
            mine = [turn.sentences_per_second for turn in case_rows[ours].turns]
            ratios = round_ratios(mine, [turn.sentences_per_second for turn in row.turns])
            counted = counted and qualities[ours].counted
        spread = Spread.of(ratios) if ratios else None
        lines.append(Line(row=row, quality=quality, ratio=spread, ratios=tuple(ratios), counted=counted))
    return lines


HEADER = (
    "search",
    "in flight",
    "sentences",
    "system",
    "set-up",
    "sent/s",
    "tok/s",
    "BLEU",
    "ours/it",
    "spread",
    "2nd run",
    "",
)


def table(lines: Sequence[Line]) -> str:
    """The lines as aligned text; a row that does not count says so."""
    cells = [HEADER, *map(_cells, lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(padded)


def markdown(lines: Sequence[Line]) -> str:
    """The same as a Markdown table."""
    rows = [HEADER, ("---",) * len(HEADER), *map(_cells, lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cells(line: Line) -> tuple[str, ...]:
    row, quality, ratio, again = line.row, line.quality, line.ratio, second_run(line.ratios)
    remark = "" if line.counted else "no BLEU to meet" if quality.reference_bleu is None else "not counted"
    return (
        row.case.search.name,
        row.case.label,
        str(row.case.sentences),
        row.system,
        row.settings.describe(),
        f"{line.sentences_per_second.median:.1f}",
        f"{line.tokens_per_second.median:.0f}",
        f"{quality.bleu:.2f}",
        f"{ratio.median:.2f}" if ratio else "",
        f"{ratio.least:.2f}-{ratio.largest:.2f}" if ratio else "",
        f"{again[0]:.2f}-{again[1]:.2f}" if again else "",
        remark,
    )


def others_share(turns: Sequence[Turn], *, cores: int) -> float | None:
    """The part of the processor that other processes used during `turns`; None where it is not known."""
    known = [turn for turn in turns if turn.others_cpu_seconds is not None]
    seconds = sum(turn.seconds for turn in known)
    if not seconds:
        return None
    return sum(turn.others_cpu_seconds or 0.0 for turn in known) / (seconds * cores)


def as_json(lines: Sequence[Line], *, facts: Mapping[str, object]) -> dict[str, object]:
    """Everything but the translations, ready for JSON."""
    ratios = {
        f"{line.row.case.search.name}, {line.row.case.label}, over {line.row.system}": line.ratios for line in lines
    }
    return {
        **facts,
        "rows": [_fields(line) for line in lines],
        "ratios": {name: list(found) for name, found in ratios.items() if found},
    }


def _fields(line: Line) -> dict[str, object]:
    row = line.row
    return {
        "search": asdict(row.case.search),
        "in_flight": row.case.in_flight,
        "level": row.case.label,
        "sentences": row.case.sentences,
        "system": row.system,
        "settings": asdict(row.settings),
        "rounds": [asdict(turn) for turn in row.turns],
        "sentences_per_second": asdict(line.sentences_per_second),
        "tokens_per_second": asdict(line.tokens_per_second),
        "quality": asdict(line.quality),
        "ours_over_this": asdict(line.ratio) if line.ratio else None,
        "ours_over_this_by_round": list(line.ratios),
        "ours_over_this_in_second_run": second_run(line.ratios),
        "counted": line.counted,
    }
