"""An engine stepped by hand: a runner that ends sentences when the test says, and what the engine reported."""

from __future__ import annotations

from service.engine import (
    Batch,
    DecodingOptions,
    Engine,
    FinishReason,
    RefusalReason,
    SilentObserver,
    StepOutput,
    StepRecord,
    Timings,
)
from service.engine.engine import Ticket
from tests.doubles import fake_runner
from tests.doubles.fake_runner import EOS, FakeRunner

GREEDY = DecodingOptions()
LONG, SHORT, OTHER = (2, 2, 2, 17), (5, 6), (7, 8, 9)


class Recorder(SilentObserver):
    """Keeps what the engine reports."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.reasons: list[FinishReason] = []
        self.refusals: list[RefusalReason] = []

    def step(self, record: StepRecord) -> None:
        """Keep a turn."""
        self.records.append(record)

    def finished(self, reason: FinishReason, timings: Timings) -> None:
        """Keep why a sequence ended."""
        self.reasons.append(reason)

    def refused(self, reason: RefusalReason) -> None:
        """Keep why a sequence was refused."""
        self.refusals.append(reason)


class ScriptedRunner(FakeRunner):
    """Ends each sentence after as many steps as its first source token says; fails where a test wants it."""

    def __init__(self, *, row_slots: int = 8) -> None:
        super().__init__(fake_runner.limits(row_slots=row_slots, max_output_tokens=64))
        self.rows_seen: list[int] = []
        self.fail_encode = False
        self.fail_steps: set[int] = set()

    def encode(self, sources, slots, lanes) -> None:  # type: ignore[no-untyped-def]
        """Encode, or fail."""
        if self.fail_encode:
            raise RuntimeError("the encoder fell over")
        super().encode(sources, slots, lanes)

    def decode_step(self, batch: Batch) -> StepOutput:
        """Pieces until it is time for EOS."""
        self.rows_seen.append(len(batch.last_tokens))
        if len(self.rows_seen) in self.fail_steps:
            raise RuntimeError("the step fell over")
        output = super().decode_step(batch)
        for row, slot in enumerate(batch.sentence_slots.tolist()):
            ends = batch.past_lengths[row] + 1 >= self._sources[slot][0]
            output.top_ids[row, 0] = EOS if ends else 3
        return output


def run(engine: Engine) -> None:
    """Step until nothing is left to do."""
    while engine.step():
        pass


def ids_of(ticket: Ticket) -> tuple[int, ...]:
    """The best hypothesis."""
    return ticket.future.result(0).hypotheses[0].ids
