"""Prove a bundle: run it with the service's own engine and hold it beside the PyTorch model it was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.beam_proof import BeamProof, prove_beams, spread
from exporter.logit_parity import LogitCase, logit_cases, rows_independent
from exporter.model import TranslationModel
from exporter.probes import Probes, answer_greedily, with_eos
from exporter.serving import engine_over
from exporter.teacher import Difference, disagreements
from service.engine import ModelRunner
from service.errors import ExportError

TIE_GAP = 1e-4
"""Two logits closer than this may come out in either order; see the reference in docs/architecture.md."""
LARGEST_LOGIT_DIFFERENCE = 1e-3
"""What fp32 sums in another order may differ by."""
DECIDED_AGREEMENT = 0.95
"""Share of the reference's clear decisions that a quantized model must make too."""
BEAMS_LEFT_OUT = "not run: --proof-beams 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyProof:
    """Greedy decoding of all probes together.

    ``differing`` lists the sentences whose answers are not the reference's; ``preferred_otherwise`` the steps of these
    answers at which PyTorch prefers another token, and by how much, where it was asked.
    """

    sentences: int
    preferred_otherwise: tuple[Difference, ...]
    differing: tuple[int, ...]
    tokens_per_second: float


def beyond_ties(differences: Sequence[Difference]) -> list[Difference]:
    """Return the steps that no tie explains."""
    return [difference for difference in differences if difference.gap >= TIE_GAP]


def refuse_beyond_ties(differences: Sequence[Difference]) -> None:
    """Refuse answers that are not PyTorch's.

    Raises:
        ExportError: naming the first step.
    """
    found = beyond_ties(differences)
    if found:
        raise ExportError(
            f"proof failed: PyTorch prefers other tokens at {len(found)} steps, first in sentence {found[0].sentence} "
            f"at step {found[0].step}, where its own leads by {found[0].gap:.2g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was measured of one bundle; ``answers`` are its own to the probes' questions, EOS included.

    ``beams`` is None where beam search was left out.
    """

    logits: tuple[LogitCase, ...]
    greedy: GreedyProof
    rows_independent: bool
    answers: list[list[int]]
    beams: BeamProof | None = None

    def to_report(self) -> dict[str, object]:
        """Return the JSON fields of the report."""
        return {
            "logits": [dataclasses.asdict(case) for case in self.logits],
            "greedy": dataclasses.asdict(self.greedy),
            "beam": BEAMS_LEFT_OUT if self.beams is None else self.beams.to_report(),
            "rows_independent": self.rows_independent,
        }

    def check(self, *, exact: bool, fused: bool) -> None:
        """Accept or refuse; ``exact`` for fp32, whose tokens must be the reference's.

        Rows of graphs that are not ``fused`` may depend on their company: plain products sum in another order.

        Raises:
            ExportError: saying what does not hold.
        """
        if fused and not self.rows_independent:
            raise ExportError("proof failed: a sentence's numbers depend on the sentences decoded beside it")
        worst = max(self.logits, key=lambda case: case.largest_difference)
        if not np.isfinite(worst.largest_difference):
            raise ExportError(f"proof failed: the graphs return numbers that are not finite ({worst.name})")
        if exact and worst.largest_difference > LARGEST_LOGIT_DIFFERENCE:
            raise ExportError(f"proof failed: logits differ by {worst.largest_difference:.2g} ({worst.name})")
        if exact:
            refuse_beyond_ties(self.greedy.preferred_otherwise)
        agreement = min(case.decided_agreement for case in self.logits)
        if not exact and agreement < DECIDED_AGREEMENT:
            raise ExportError(f"proof failed: only {agreement:.1%} of the clear decisions survive quantization")


def proved(
    runner: ModelRunner,
    model: TranslationModel,
    probes: Probes,
    *,
    exact: bool,
    fused: bool,
    explain: bool,
    beams: int | None,
    progress: Callable[[int], None] = lambda sentences: None,
) -> Proof:
    """Measure and check all that there is to prove, beam search on ``beams`` of the sentences, None for all.

    Raises:
        ExportError: saying what does not hold.
    """
    proof = prove(runner, model, probes, explain=explain)
    proof.check(exact=exact, fused=fused)
    sentences = spread(len(probes.sources), most=beams)
    if not sentences:
        return proof
    found = prove_beams(runner, model, probes.questions, sentences, progress=progress)
    found.check(exact=exact)
    return dataclasses.replace(proof, beams=found)


def prove(runner: ModelRunner, model: TranslationModel, probes: Probes, *, explain: bool) -> Proof:
    """Measure logits and greedy answers of a bundle's ``runner`` beside ``model``, which answered ``probes``.

    ``explain`` asks ``model`` about every step of the answers that differ, which takes long where many do.
    """
    logits = tuple(logit_cases(runner, model, probes))
    independent = rows_independent(runner, probes)
    with engine_over(runner) as engine:
        decoded = answer_greedily(engine, probes.questions)
    answers = with_eos(decoded, model.config.eos_id)
    pairs = zip(answers, probes.answers, strict=True)
    differing = tuple(index for index, (ours, reference) in enumerate(pairs) if ours != reference)
    greedy = GreedyProof(
        sentences=len(answers),
        preferred_otherwise=tuple(questioned(model, probes, answers, differing if explain else ())),
        differing=differing,
        tokens_per_second=decoded.tokens_per_second,
    )
    return Proof(logits=logits, greedy=greedy, rows_independent=independent, answers=answers)


def questioned(
    model: TranslationModel, probes: Probes, answers: Sequence[Sequence[int]], differing: Sequence[int]
) -> list[Difference]:
    """Return the steps of the ``differing`` answers at which ``model`` prefers another token."""
    found = disagreements(
        model,
        [probes.sources[index] for index in differing],
        [answers[index] for index in differing],
        [probes.questions.limits[index] for index in differing],
    )
    return [dataclasses.replace(difference, sentence=differing[difference.sentence]) for difference in found]
