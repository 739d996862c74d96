"""Hold a bundle's beam search, run with the service's own engine, beside the PyTorch model's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exporter.beam import BeamAnswer, beam_answers
from exporter.model import TranslationModel
from exporter.probes import Questions
from exporter.serving import engine_over
from service.engine import DecodingOptions, ModelRunner
from service.errors import ExportError

BEAM_SIZE = 4
REQUIRED_AGREEMENT = 0.99
"""Share of sentences on which an fp32 bundle must find the reference's best hypothesis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamDifference:
    """A sentence whose best hypothesis is not the reference's, with both scores."""

    sentence: int
    score: float
    reference_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamProof:
    """Best hypotheses of the probes that ``sentences`` numbers: the bundle's and the reference's."""

    sentences: tuple[int, ...]
    answers: list[BeamAnswer]
    reference: list[BeamAnswer]

    @property
    def differences(self) -> list[BeamDifference]:
        """The sentences with other tokens than the reference's."""
        return [
            BeamDifference(sentence=sentence, score=ours.score, reference_score=theirs.score)
            for sentence, ours, theirs in zip(self.sentences, self.answers, self.reference, strict=True)
            if ours.ids != theirs.ids
        ]

    @property
    def agreement(self) -> float:
        """The share of sentences with the reference's tokens."""
        return 1.0 - len(self.differences) / len(self.sentences)

    def to_report(self) -> dict[str, object]:
        """Return the JSON fields of the report."""
        return {
            "sentences": len(self.sentences),
            "beam_size": BEAM_SIZE,
            "agreement": self.agreement,
            "differences": [dataclasses.asdict(difference) for difference in self.differences],
        }

    def check(self, *, exact: bool) -> None:
        """Accept or refuse; ``exact`` for fp32, whose hypotheses must be the reference's.

        Raises:
            ExportError: saying how many are.
        """
        if exact and self.agreement < REQUIRED_AGREEMENT:
            raise ExportError(
                f"proof failed: beam {BEAM_SIZE} agrees with PyTorch's on {self.agreement:.1%} of sentences only"
            )


def prove_beams(
    runner: ModelRunner,
    model: TranslationModel,
    questions: Questions,
    sentences: Sequence[int],
    *,
    progress: Callable[[int], None] = lambda sentences: None,
) -> BeamProof:
    """Let ``model`` and a bundle's ``runner`` answer those of ``questions`` that ``sentences`` numbers."""
    sources = [questions.sources[index] for index in sentences]
    limits = [questions.limits[index] for index in sentences]
    reference = [answers[0] for answers in beam_answers(model, sources, limits, beams=BEAM_SIZE, progress=progress)]
    options = [DecodingOptions(beam_size=BEAM_SIZE, max_output_tokens=limit) for limit in limits]
    with engine_over(runner) as engine:
        results = engine.decode(sources, options).results
    best = [result.hypotheses[0] for result in results]
    answers = [BeamAnswer(list(hypothesis.ids), hypothesis.score) for hypothesis in best]
    return BeamProof(sentences=tuple(sentences), answers=answers, reference=reference)


def spread(count: int, *, most: int | None) -> list[int]:
    """Return the indices of all of ``count`` sentences, or of ``most`` of them, the first and the last among these."""
    if most is None or most >= count:
        return list(range(count))
    return [index * (count - 1) // max(most - 1, 1) for index in range(most)]
