"""Hold a bundle's log-probabilities beside PyTorch's, step by step along the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from exporter.alignment import padded
from exporter.model import TranslationModel
from exporter.probes import Probes
from service.engine import Batch, ModelRunner
from service.graph_names import LANES

FloatArray = npt.NDArray[np.float32]

DECIDED_GAP = 1.0
"""Where the reference's best token leads by this much, a quantized model should agree."""
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
