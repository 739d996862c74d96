"""What the parity program compares with is itself found to tell right from wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime as ort
import pytest

from exporter.serving import Answers, BundleEngine, engine_over
from loadtests.bench.statistics import Spread
from service.bundle import Bundle
from service.engine import DecodingOptions, Engine
from service.runtime import OnnxRunner, RuntimeSettings
from service.runtime.sessions import open_sessions
from tests import gpu_parity
from tests.gpu_comparison import Dependence, TokenDifference, batch_dependence, greedy_answers, token_differences

SOURCES = [[20, 31, 42, 53, 0], [15, 16, 0], [60, 61, 62, 0]]


@pytest.fixture(scope="module")
def reference(tiny_bundle: Path) -> OnnxRunner:
    """fp32 on the CPU."""
    bundle, settings = (
        Bundle.load(tiny_bundle),
        RuntimeSettings(row_slots=16, max_source_tokens=40, max_output_tokens=24),
    )
    return OnnxRunner(bundle, open_sessions(bundle, settings), settings)


def test_equal_answers_have_no_differences(reference: OnnxRunner) -> None:
    """Answers end with EOS, and the same runner gives them twice."""
    answers, _ = greedy_answers(reference, SOURCES)
    assert all(answer[-1] == reference.limits.eos_id for answer in answers)
    assert token_differences(reference, SOURCES, answers, greedy_answers(reference, SOURCES)[0]) == []


def test_a_difference_is_its_first_step_with_what_the_reference_thought(reference: OnnxRunner) -> None:
    """The reference's own token leads; the gap to its second best is never more than the lead over another."""
    answers, _ = greedy_answers(reference, SOURCES)
    wrong = [list(answer) for answer in answers]
    wrong[1][3:5] = [token + 1 for token in wrong[1][3:5]]
    (found,) = token_differences(reference, SOURCES, answers, wrong)
    assert (found.sentence, found.step) == (1, 3)
    assert (found.expected, found.found) == (answers[1][3], answers[1][3] + 1)
    assert 0.0 < found.top_two_gap <= found.lead


def test_a_runner_whose_rows_know_no_neighbours_is_independent(reference: OnnxRunner) -> None:
    """fp32 on the CPU gives the same bits alone and in all four companies."""
    with engine_over(reference) as engine:
        assert batch_dependence(engine, SOURCES) == Dependence(companies=4, sentences=[])


class Meddling(BundleEngine):
    """An engine that changes what it answers when `meddles` says so of all that was submitted."""

    def __init__(self, engine: Engine, meddles: Callable[[Sequence[Sequence[int]]], bool]) -> None:
        super().__init__(engine)
        self._meddles = meddles

    def decode(
        self,
        sources: Sequence[Sequence[int]],
        options: Sequence[DecodingOptions],
        *,
        progress: Callable[[], None] = lambda: None,
    ) -> Answers:
        """Move the last bits of the second sentence's score."""
        answers = super().decode(sources, options, progress=progress)
        if self._meddles(sources):
            place = list(map(list, sources)).index(SOURCES[1])
            result = answers.results[place]
            moved = dataclasses.replace(result.hypotheses[0], score=result.hypotheses[0].score + 1e-12)
            answers.results[place] = dataclasses.replace(result, hypotheses=(moved, *result.hypotheses[1:]))
        return answers


@pytest.mark.parametrize("least", [2, 4])
def test_bits_that_depend_on_company_are_found(least: int, reference: OnnxRunner) -> None:
    """A last bit that moves among three sentences, or only among six with beams, names its sentence."""
    engine = Engine([reference])
    engine.start()
    try:
        found = batch_dependence(Meddling(engine, lambda sources: len(sources) >= least), SOURCES)
    finally:
        engine.shutdown(grace_seconds=0.0)
    assert found.sentences == [1]


def parity_of(*, wrong: int = 0, dependent: Sequence[int] = ()) -> gpu_parity.Parity:
    """A result over a thousand sentences."""
    difference = TokenDifference(sentence=7, step=2, expected=5, found=6, top_two_gap=0.001, lead=0.001)
    return gpu_parity.Parity(
        sentences=1000,
        too_long=0,
        differences=[dataclasses.replace(difference, sentence=index) for index in range(wrong)],
        dependence={
            "fast": Dependence(companies=4, sentences=[1, 2]),
            "deterministic": Dependence(companies=4, sentences=list(dependent)),
        },
        tokens_per_second={"fast": Spread(300.0, 200.0, 400.0), "deterministic": Spread(150.0, 100.0, 200.0)},
    )


def test_both_promises_must_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """5 of 1,000 may differ and 6 may not; one sentence that depends on its company is one too many."""
    assert parity_of(wrong=5).holds
    assert not parity_of(wrong=6).holds
    assert not parity_of(dependent=[3]).holds
    assert parity_of().cost == 2.0
    gpu_parity.report(parity_of(wrong=6, dependent=[3]))
    output = capsys.readouterr().out
    assert "fast: 994 of 1000 sentences (99.40%)" in output
    assert "deterministic: 1 sentences depend on their company (must be 0; 4 companies)\n    3\n" in output
    assert output.endswith("deterministic takes 2.00 times as long\nDOES NOT HOLD\n")


def test_without_a_gpu_parity_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit code 3, before anything is exported."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert gpu_parity.main(["--text", str(tmp_path / "none")]) == 3
    assert capsys.readouterr().err.count("\n") == 1
