"""Before serving, the workers have run what will need most memory, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Barrier

import numpy as np
import numpy.typing as npt
import pytest

from service.engine import Batch, ModelLimits, ModelRunner, StepOutput
from service.errors import BundleError
from service.graph_names import LANES
from service.runtime.warm_up import warm_up
from tests.doubles.fake_runner import FakeRunner, limits


class Recorder(FakeRunner):
    """Writes down what it was asked for; `meeting` holds an encoding until all workers are at theirs."""

    def __init__(self, model: ModelLimits, meeting: Barrier) -> None:
        super().__init__(model)
        self._meeting = meeting
        self.widths: list[tuple[int, int]] = []
        self.steps: list[tuple[int, int, int]] = []
        self.alone: list[bool] = []

    def encode(self, sources: Sequence[npt.NDArray[np.int32]], slots: Sequence[int], lanes: Sequence[int]) -> None:
        """As the fake does, after the other workers have come as far."""
        self._meeting.wait(5)
        self.widths.append((len(sources), max(map(len, sources))))
        super().encode(sources, slots, lanes)

    def decode_step(self, batch: Batch) -> StepOutput:
        """Nothing is computed; the sentences of the rows must be there."""
        sentences = set(batch.sentence_slots.tolist())
        assert sentences == self.open_slots
        self.steps.append((len(batch.last_tokens), len(sentences), int(batch.past_lengths.max())))
        self.alone.append(batch.alone)
        nothing = np.zeros((len(batch.last_tokens), batch.best), np.float32)
        return StepOutput(
            top_ids=nothing.astype(np.int64), top_log_probs=nothing, log_probs=None, alignment_queries=None
        )


def test_all_workers_run_their_largest_batches_together() -> None:
    """2,048 padded tokens of the longest sources, and full steps at the last position; no sentence stays behind."""
    meeting = Barrier(2)
    model = limits(row_slots=32, max_source_tokens=100, max_output_tokens=24)
    recorders = [Recorder(model, meeting) for _ in range(2)]
    warm_up(recorders)
    for each in recorders:
        assert each.widths == [(20, 100), (32, 1), (32 // LANES, 1)]
        assert each.steps == [(20, 20, 23), (32, 32, 23), (32, 32 // LANES, 23)]
        assert each.open_slots == set()


def test_a_lone_worker_s_decoder_runs_its_largest_steps_too() -> None:
    """By one worker, when the others have done theirs: no two ever use it at a time."""
    recorders = [Recorder(limits(row_slots=32, max_source_tokens=100), Barrier(1)) for _ in range(2)]
    warm_up(recorders, lone_decoder=True)
    assert recorders[0].alone == [False, False, False, True, True]
    assert [rows for rows, _, _ in recorders[0].steps[3:]] == [32, 32]
    assert recorders[1].alone == [False, False, False]


def test_few_rows_and_long_sources_are_no_trouble() -> None:
    """At least one sentence is encoded, and never more rows are asked for than there are."""
    recorder = Recorder(limits(row_slots=3, max_source_tokens=4000), Barrier(1))
    warm_up([recorder])
    assert recorder.widths == [(1, 4000), (3, 1), (1, 1)]
    assert [rows for rows, _, _ in recorder.steps] == [1, 3, 3]


def test_a_model_that_cannot_run_is_refused_at_once() -> None:
    """The other worker does not wait for the one that failed, and the error that is shown is the failed one's."""

    def fails(_: int) -> None:
        raise MemoryError

    runners: list[ModelRunner] = [FakeRunner(), FakeRunner(on_encode=fails)]
    with pytest.raises(BundleError) as caught:
        warm_up(runners)
    assert isinstance(caught.value.__cause__, MemoryError)
