"""What travels between the bench and a system's process: one JSON object a line, each way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from loadtests.bench.settings import Search, Settings

IdRows = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Translate `sources` (token ids, EOS included), never more than `in_flight` of them at a time."""

    sources: IdRows
    search: Search
    settings: Settings
    in_flight: int

    def to_line(self) -> str:
        """The line that asks for this job."""
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_line(line: str) -> Job:
        """Read a line that `to_line` wrote."""
        fields = json.loads(line)
        return Job(
            sources=fields["sources"],
            search=Search(**fields["search"]),
            settings=Settings(**fields["settings"]),
            in_flight=fields["in_flight"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Ids of the best hypotheses (no EOS) in the order of the sources, and what they took.

    `seconds` run from the first call's start to the last one's end. `cpu_seconds` are this process's own,
    `others_cpu_seconds` those of every other process meanwhile, None where the system does not tell.
    """

    outputs: IdRows
    seconds: float
    cpu_seconds: float
    others_cpu_seconds: float | None

    @property
    def tokens(self) -> int:
        """Target tokens, EOS counted."""
        return sum(len(ids) + 1 for ids in self.outputs)

    def to_line(self) -> str:
        """The line that carries this answer."""
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_line(line: str) -> Answer:
        """Read a line that `to_line` wrote."""
        fields = json.loads(line)
        return Answer(
            outputs=fields["outputs"],
            seconds=fields["seconds"],
            cpu_seconds=fields["cpu_seconds"],
            others_cpu_seconds=fields["others_cpu_seconds"],
        )
