"""Rows and libraries made by hand."""

from collections.abc import Callable

from loadtests.bench.cases import Case
from loadtests.bench.measuring import Row, Turn
from loadtests.bench.protocol import Answer, IdRows, Job
from loadtests.bench.settings import SEARCHES, Settings


def case_of(*systems: str, level: int = 8, sentences: int = 2, rounds: int = 1, search: str = "greedy") -> Case:
    """A case of a few sentences."""
    return Case(search=SEARCHES[search], level=level, sentences=sentences, rounds=rounds, systems=systems)


def turn_of(sentences_per_second: float, *, others: float | None = 0.0) -> Turn:
    """A round of ten seconds."""
    count = round(10 * sentences_per_second)
    return Turn(seconds=10.0, sentences=count, tokens=30 * count, cpu_seconds=20.0, others_cpu_seconds=others)


def row_of(system: str, outputs: IdRows, *, rates: tuple[float, ...] = (1.0,), case: Case | None = None) -> Row:
    """A row that answered `outputs` at these sentences/s, round by round."""
    return Row(
        case=case or case_of(system, sentences=len(outputs)),
        system=system,
        settings=Settings(workers=2, threads=1, row_slots=8),
        turns=tuple(map(turn_of, rates)),
        outputs=outputs,
    )


class FakeLibrary:
    """Answers each source with itself in as many seconds per sentence as `pace` says for the settings."""

    def __init__(self, pace: Callable[[Settings], float] = lambda settings: 1.0) -> None:
        self._pace = pace
        self.jobs: list[Job] = []

    def run(self, job: Job) -> Answer:
        """Remember the job and answer it."""
        self.jobs.append(job)
        seconds = self._pace(job.settings) * len(job.sources)
        return Answer(outputs=job.sources, seconds=seconds, cpu_seconds=seconds, others_cpu_seconds=None)
