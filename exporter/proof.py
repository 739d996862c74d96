"""Prove a bundle: run it with the service's own engine and hold it beside the PyTorch model it was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from exporter.alignment import padded
from exporter.model import TranslationModel
from exporter.probes import Probes, answer_greedily, with_eos
from exporter.serving import engine_over
from exporter.teacher import Difference, disagreements
from service.engine import Batch, ModelRunner
from service.errors import ExportError
from service.graph_names import LANES

FloatArray = npt.NDArray[np.float32]

TIE_GAP = 1e-4
"""Two logits closer than this may come out in either order; see the reference in docs/architecture.md."""
LARGEST_LOGIT_DIFFERENCE = 1e-3
"""What fp32 sums in another order may differ by."""
DECIDED_GAP = 1.0
"""Where the reference's best token leads by this much, a quantized model should agree."""
DECIDED_AGREEMENT = 0.95
CLIPPED_SHARE = 1e-3
_LOGIT_STEPS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitCase:
    """Sentences decoded together, each fed the reference's answer, and how far log-probabilities were off."""

    name: str
    sentences: int
    lanes: int
    longest_source: int
    steps: int
    largest_difference: float
    agreement: float
    decided_agreement: float


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
    """What was measured of one bundle; ``answers`` are its own to the probes' questions, EOS included."""

    logits: tuple[LogitCase, ...]
    greedy: GreedyProof
    rows_independent: bool
    answers: list[list[int]]

    def to_report(self) -> dict[str, object]:
        """Return the JSON fields of the report."""
        return {
            "logits": [dataclasses.asdict(case) for case in self.logits],
            "greedy": dataclasses.asdict(self.greedy),
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


def prove(runner: ModelRunner, model: TranslationModel, probes: Probes, *, explain: bool) -> Proof:
    """Measure a bundle's ``runner`` against ``model``, which gave the answers of ``probes``.

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


def logit_cases(runner: ModelRunner, model: TranslationModel, probes: Probes) -> list[LogitCase]:
    """Compare log-probabilities for one and for several sentences, short, long and padded, narrow and wide."""
    order = sorted(range(len(probes.sources)), key=lambda index: len(probes.sources[index]))
    spread = [order[place * (len(order) - 1) // 7] for place in range(8)]
    cases = (("one short", order[:1], 1), ("one long", order[-1:], 1), ("several padded", spread, 1))
    wide = ("several padded, as beams", spread[:: 8 // 4], LANES)
    return [
        logit_case(runner, model, probes, name=name, chosen=chosen, lanes=lanes)
        for name, chosen, lanes in (*cases, wide)
    ]


def logit_case(
    runner: ModelRunner, model: TranslationModel, probes: Probes, *, name: str, chosen: Sequence[int], lanes: int
) -> LogitCase:
    """Feed the reference's answers to the graphs and compare the log-probabilities of every step."""
    sources = [probes.sources[index] for index in chosen]
    answers = [probes.answers[index][:_LOGIT_STEPS] for index in chosen]
    expected = reference_log_probs(model, sources, answers)
    found = forced_log_probs(runner, sources, answers, lanes=lanes)
    largest, agreeing, decided, decided_agreeing, steps = 0.0, 0, 0, 0, 0
    for row, answer in enumerate(answers):
        for step in range(len(answer)):
            theirs, ours = expected[row, step], found[step][row * lanes + step % lanes, : expected.shape[2]]
            finite = np.isfinite(theirs)
            difference = float(np.abs(ours[finite] - theirs[finite]).max())
            largest = max(largest, difference if np.isfinite(difference) else np.inf)
            agrees = int(ours.argmax() == theirs.argmax())
            second, first = np.partition(theirs, -2)[-2:]
            steps, agreeing = steps + 1, agreeing + agrees
            if first - second >= DECIDED_GAP:
                decided, decided_agreeing = decided + 1, decided_agreeing + agrees
    return LogitCase(
        name=name,
        sentences=len(chosen),
        lanes=lanes,
        longest_source=max(len(source) for source in sources),
        steps=steps,
        largest_difference=largest,
        agreement=agreeing / steps,
        decided_agreement=decided_agreeing / decided if decided else 1.0,
    )


@torch.inference_mode()
def reference_log_probs(
    model: TranslationModel, sources: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> FloatArray:
    """Return PyTorch's log-probabilities (sentences, steps, vocabulary) along ``answers``, padding never chosen."""
    start, eos = model.config.decoder_start_id, model.config.eos_id
    ids, mask = padded(sources, fill=eos)
    targets, _ = padded([[start, *answer[:-1]] for answer in answers], fill=eos)
    log_probs = model(ids, mask, targets).log_softmax(dim=-1)
    log_probs[:, :, model.config.pad_id] = -torch.inf
    result: FloatArray = log_probs.numpy()
    return result


def forced_log_probs(
    runner: ModelRunner, sources: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, lanes: int
) -> list[FloatArray]:
    """Return the graphs' log-probabilities (sentences * lanes, padded vocabulary) of each step along ``answers``."""
    limits = runner.limits
    count = len(sources)
    runner.encode([np.array(source, np.int32) for source in sources], list(range(count)), [lanes] * count)
    slots = np.repeat(np.arange(count, dtype=np.int32), lanes)
    rows = np.arange(count * lanes, dtype=np.int64)
    bans = np.stack([rows, np.full_like(rows, limits.pad_id)], axis=1)
    inputs = np.full((max(len(answer) for answer in answers), count), limits.eos_id, np.int32)
    inputs[0] = limits.start_id
    for row, answer in enumerate(answers):
        inputs[1 : len(answer), row] = answer[:-1]
    found: list[FloatArray] = []
    for step, tokens in enumerate(inputs):
        batch = Batch(
            last_tokens=np.repeat(tokens, lanes),
            past_lengths=np.full(count * lanes, step, np.int32),
            sentence_slots=slots,
            bans=bans,
            best=1,
            full_rows=True,
        )
        log_probs = runner.decode_step(batch).log_probs
        if log_probs is None:
            raise RuntimeError("the runner left out the log-probabilities that were asked for: this is a bug")
        found.append(log_probs.copy())
    for slot in range(count):
        runner.release(slot)
    return found


def rows_independent(runner: ModelRunner, probes: Probes) -> bool:
    """Tell whether sentences give the same bits alone, in company, and as one beam of a wide sentence."""
    order = sorted(range(len(probes.sources)), key=lambda index: len(probes.sources[index]))
    chosen = [order[place * (len(order) - 1) // 5] for place in range(6)]
    sources = [probes.sources[index] for index in chosen]
    answers = [probes.answers[index][:6] for index in chosen]
    together = forced_log_probs(runner, sources, answers, lanes=1)
    wide = forced_log_probs(runner, sources, answers, lanes=LANES)
    for row in range(len(chosen)):
        alone = forced_log_probs(runner, sources[row : row + 1], answers[row : row + 1], lanes=1)
        for step in range(len(answers[row])):
            same = np.array_equal(alone[step][0], together[step][row])
            if not same or not np.array_equal(alone[step][0], wide[step][row * LANES + 1]):
                return False
    return True
