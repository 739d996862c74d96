"""Beam search with the PyTorch model: the reference that bundles' beams are held to.

The rule is that of ``transformers`` with ``num_beams``, ``early_stopping=False``, ``length_penalty=1.0``,
``bad_words_ids=[[pad]]`` and ``forced_eos_token_id``. Letters: B sentences, N beams of each, S source positions,
V vocabulary; rows are the N beams of the first sentence, then those of the second and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from exporter.alignment import padded
from exporter.attention import KeysValues, PastKeysValues
from exporter.greedy import batches_of_like_length
from exporter.model import TranslationModel
from exporter.projection import Projection

BATCH_SENTENCES = 96
"""Enough for efficient products; the log-probabilities of all their beams are in memory at once."""
_NO_BEAM = -1e9


@dataclass(frozen=True, slots=True)
class BeamAnswer:
    """A finished hypothesis: ids without EOS, and its log-probability over its length, EOS counted."""

    ids: list[int]
    score: float


class Candidates(NamedTuple):
    """The best continuations of each sentence, best first, each (B, 2N): the beam, its new token, and the sum of all
    its log-probabilities."""

    beams: Tensor
    tokens: Tensor
    totals: Tensor


def best_candidates(totals: Tensor, log_probs: Tensor) -> Candidates:
    """Return the best continuations of beams that have ``totals`` (B, N), given the next tokens' (B * N, V).

    As a beam ends in one way only, twice as many as beams always leave all beams something to go on with.
    """
    sentences, beams = totals.shape
    best, tokens = log_probs.topk(2 * beams)
    sums, chosen = (totals.reshape(-1, 1) + best).reshape(sentences, -1).topk(2 * beams)
    return Candidates(chosen // (2 * beams), tokens.reshape(sentences, -1).gather(1, chosen), sums)


class BeamSearch:
    """The beams of one batch of sentences; a sentence that is done leaves the batch.

    Source ids and mask are (B, S); an answer has at most its limit of tokens, EOS counted.
    """

    @torch.inference_mode()
    def __init__(
        self, model: TranslationModel, source_ids: Tensor, source_mask: Tensor, limits: Sequence[int], *, beams: int
    ) -> None:
        self._model = model
        self._beams = beams
        self._mask = source_mask[:, None, None, :]
        self._cross = model.cross_keys_values(model.encode(source_ids, source_mask))
        rows = len(limits) * beams
        self._past = [PastKeysValues(pair.keys, rows=rows, capacity=max(limits)) for pair in self._cross]
        self._projection = Projection(model, rows=rows)
        self._finished: list[list[BeamAnswer]] = [[] for _ in limits]
        self._going = torch.arange(len(limits))
        self._limits = torch.tensor(limits)
        self._tokens = torch.full((rows, 1), model.config.decoder_start_id)
        # All beams begin alike: were the others to count too, each would go on with the same tokens.
        self._totals = torch.full((len(limits), beams), _NO_BEAM)
        self._totals[:, 0] = 0.0

    @torch.inference_mode()
    def run(self) -> list[list[BeamAnswer]]:
        """Return the N best answers to each source, best first."""
        length = 0
        while len(self._going):
            length += 1
            self._step(length)
        return self._finished

    def _step(self, length: int) -> None:
        """Let all beams grow to ``length`` tokens, EOS counted."""
        last = self._limits[self._going] == length
        found = best_candidates(self._totals, self._log_probs(last.repeat_interleave(self._beams)))
        ended = found.tokens == self._model.config.eos_id
        self._collect(found, ended, length)
        going_on = ended.sort(dim=1, stable=True).indices[:, : self._beams]
        hopeful = found.totals.gather(1, going_on[:, :1])[:, 0] / length > self._least()
        self._go_on(found, going_on, (hopeful & ~last).nonzero()[:, 0])

    def _log_probs(self, last: Tensor) -> Tensor:
        """Return what the reference searches in, (B * N, V): no padding, and EOS for free in rows that are ``last``."""
        model, config = self._model, self._model.config
        states = model.embed_target(self._tokens[:, -1:], first_position=self._tokens.shape[1] - 1)
        for layer, pair, past in zip(model.decoder.layers, self._cross, self._past, strict=True):
            states = layer(states, pair, self._mask, past=past).states
        log_probs = self._projection.log_probs(model.decoder.norm(states)[:, 0])
        log_probs[:, config.pad_id] = -torch.inf
        log_probs[last] = -torch.inf
        log_probs[last, config.eos_id] = 0.0
        return log_probs

    def _collect(self, found: Candidates, ended: Tensor, length: int) -> None:
        """Keep the N best of all that has ``ended`` (B, 2N) among each step's N best."""
        for sentence, rank in ended[:, : self._beams].nonzero().tolist():
            row = sentence * self._beams + int(found.beams[sentence, rank])
            score = float(found.totals[sentence, rank]) / length
            answers = self._finished[self._going[sentence]]
            answers.append(BeamAnswer(self._tokens[row, 1:].tolist(), score))
            answers.sort(key=lambda answer: -answer.score)
            del answers[self._beams :]

    def _least(self) -> Tensor:
        """Return what a hypothesis must exceed to change the N best of its sentence (B)."""
        kept = [self._finished[index] for index in self._going]
        return torch.tensor([answers[-1].score if len(answers) == self._beams else -torch.inf for answers in kept])

    def _go_on(self, found: Candidates, going_on: Tensor, stay: Tensor) -> None:
        """Give the candidates that ``going_on`` (B, N) numbers a row each, in the sentences that ``stay`` only."""
        chosen = going_on[stay]
        beams = found.beams[stay].gather(1, chosen)
        rows = (stay[:, None] * self._beams + beams).reshape(-1)
        tokens = found.tokens[stay].gather(1, chosen).reshape(-1, 1)
        self._tokens = torch.cat([self._tokens[rows], tokens], dim=1)
        self._totals = found.totals[stay].gather(1, chosen)
        for past in self._past:
            past.keep(rows)
        if len(stay) < len(self._going):
            self._going, self._mask = self._going[stay], self._mask[stay]
            self._cross = [KeysValues(pair.keys[stay], pair.values[stay]) for pair in self._cross]


def beam_answers(
    model: TranslationModel,
    sources: Sequence[Sequence[int]],
    limits: Sequence[int],
    *,
    beams: int,
    progress: Callable[[int], None] = lambda sentences: None,
) -> list[list[BeamAnswer]]:
    """Return the ``beams`` best answers to each of ``sources`` (ids with EOS), found in batches of like length."""
    answers: dict[int, list[BeamAnswer]] = {}
    for batch in batches_of_like_length(sources, most_sentences=BATCH_SENTENCES):
        ids, mask = padded([sources[index] for index in batch], fill=model.config.eos_id)
        search = BeamSearch(model, ids, mask, [limits[index] for index in batch], beams=beams)
        answers |= zip(batch, search.run(), strict=True)
        progress(len(batch))
    return [answers[index] for index in range(len(sources))]
