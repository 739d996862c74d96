"""Find the cross-attention head, or the two, that say which source token each target token translates.

Some OPUS-MT models (transformer-align) have a head trained for it; others may have one that learned it. Garg et al.
2019, https://aclanthology.org/D19-1453

Where no head is good enough, two are tried together. A target token is the output of one decode step and the input of
the next, and a head may look at its source in the latter (Chen et al. 2020, Shift-Att,
https://aclanthology.org/2020.emnlp-main.42). The weights of the best head in the first step are multiplied with those
of the best in the second. No other pairs are tried: the best of hundreds on some hundred anchors would be so by chance.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from exporter.model import TranslationModel
from service.bundle import Alignment, Head

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

REQUIRED_ACCURACY = 0.8
REQUIRED_ANCHORS = 30
ENOUGH_ANCHORS = 500
LONGEST_PAIR = 80
"""Pairs with a side of more tokens than this are left out."""
_BATCH_PAIRS = 16
_CONTROL = re.compile(r"<[^<>]+>|>>.+<<")
_WORD = re.compile(r"[0-9]+|[A-Za-z\u00c0-\u024f\u0370-\u052f]{2,}")
"""Numbers, and words in Latin, Greek or Cyrillic letters: other scripts do not always separate words."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A target step of one pair whose word also stands in the source; ``sources`` hold the same letters of it."""

    step: int
    sources: frozenset[int]


@dataclass(frozen=True, slots=True)
class AnchoredPair:
    """Source and target ids, both with EOS, and the anchors between them."""

    source: Sequence[int]
    target: Sequence[int]
    anchors: list[Anchor]


@dataclass(frozen=True, slots=True)
class HeadScores:
    """Shares of anchors whose strongest source token holds the same letters, and the anchors' number.

    ``accuracy`` (layers, heads) judges the weights of the step that chose the token and ``shifted`` (layers, heads)
    those of the step after it; ``product`` is that of the best of the one times the best of the other. None: not tried.
    """

    accuracy: FloatArray
    anchors: int
    shifted: FloatArray | None = None
    product: float | None = None

    def best(self, *, required: float = REQUIRED_ACCURACY) -> Alignment | None:
        """Return what aligns: the best head, else two where their product was tried.

        None where too few anchors were found or nothing is as good as ``required``.
        """
        if self.anchors < REQUIRED_ANCHORS:
            return None
        head = best_head(self.accuracy)
        accuracy = float(self.accuracy[head.layer, head.head])
        if accuracy >= required:
            return Alignment(layer=head.layer, head=head.head, accuracy=round(accuracy, 4))
        if self.shifted is None or self.product is None or self.product < required:
            return None
        return Alignment(
            layer=head.layer, head=head.head, accuracy=round(self.product, 4), shifted=best_head(self.shifted)
        )

    def to_report(self, *, required: float) -> dict[str, object]:
        """Return the fields of the report; those of two heads only where they were tried."""
        best = self.best(required=required)
        fields: dict[str, object] = {
            "anchors": self.anchors,
            "best": None if best is None else best.model_dump(mode="json"),
            "accuracy": self.accuracy.round(4).tolist(),
        }
        if self.shifted is not None and self.product is not None:
            head, shifted = best_head(self.accuracy), best_head(self.shifted)
            fields["tried"] = {
                "head": head.model_dump() | {"accuracy": round(float(self.accuracy.max()), 4)},
                "shifted": shifted.model_dump() | {"accuracy": round(float(self.shifted.max()), 4)},
                "product": round(self.product, 4),
            }
            fields["shifted_accuracy"] = self.shifted.round(4).tolist()
        return fields


def best_head(accuracy: FloatArray) -> Head:
    """Return the head with the highest of (layers, heads) shares, the first of equals."""
    layer, head = (int(index) for index in np.unravel_index(accuracy.argmax(), accuracy.shape))
    return Head(layer=layer, head=head)


def anchors_of(source: Sequence[str], target: Sequence[str]) -> list[Anchor]:
    """Return the anchors of a pair of piece sequences: each target piece of a whole word that the source holds too.

    Its sources are the pieces with the same letters of that word, wherever the word stands. A word is a number, or two
    or more letters of a script that separates words. Parts of words are none: "an" in "fahren" does not translate "an".
    """
    places: dict[str, list[dict[int, range]]] = {}
    for text, pieces in words_of(source):
        places.setdefault(text, []).append(pieces)
    anchors: list[Anchor] = []
    for text, pieces in words_of(target):
        for step, letters in pieces.items():
            sources = {index for word in places.get(text, ()) for index, place in word.items() if meet(letters, place)}
            if sources:
                anchors.append(Anchor(step, frozenset(sources)))
    return anchors


def words_of(pieces: Sequence[str]) -> list[tuple[str, dict[int, range]]]:
    """Return the words of a piece sequence in order, each with the letters of it (from 0) that each piece holds."""
    visible = [" " if _CONTROL.fullmatch(piece) else piece.replace("\u2581", " ") for piece in pieces]
    ends = list(accumulate(len(piece) for piece in visible))
    words: list[tuple[str, dict[int, range]]] = []
    for found in _WORD.finditer("".join(visible)):
        start, stop = found.span()
        held: dict[int, range] = {}
        for index in range(bisect_right(ends, start), len(ends)):
            first = ends[index] - len(visible[index])
            if first >= stop:
                break
            held[index] = range(max(first, start) - start, min(ends[index], stop) - start)
        words.append((found.group(), held))
    return words


def meet(one: range, other: range) -> bool:
    """Return whether two ranges have a number in common."""
    return max(one.start, other.start) < min(one.stop, other.stop)


def anchored_pairs(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    source_pieces: Sequence[str],
    target_pieces: Sequence[str],
) -> list[AnchoredPair]:
    """Return those of (source ids, answer) pairs, both with EOS, that have anchors, until there are enough."""
    total = 0
    found: list[AnchoredPair] = []
    for source, target in pairs:
        if total >= ENOUGH_ANCHORS or max(len(source), len(target)) > LONGEST_PAIR:
            continue
        anchors = anchors_of([source_pieces[index] for index in source], [target_pieces[index] for index in target])
        if anchors:
            found.append(AnchoredPair(source, target, anchors))
            total += len(anchors)
    found.sort(key=lambda pair: len(pair.source))
    return found


def score_heads(model: TranslationModel, pairs: Sequence[AnchoredPair]) -> HeadScores:
    """Score every cross-attention head of ``model`` by the steps that chose the anchors."""
    if not pairs:
        return HeadScores(np.zeros((model.config.decoder_layers, model.config.heads)), 0)
    hits, total = count_hits(model, pairs, strongest)
    return HeadScores(hits / total, total)


def score_two_heads(model: TranslationModel, pairs: Sequence[AnchoredPair], heads: HeadScores) -> HeadScores:
    """Return ``heads`` with what the steps after the anchors' say, and with the product of the best of both.

    There must be a pair. The renormalised product of two softmaxes is the softmax of their summed scores, and that is
    how it is served.
    """
    hits, total = count_hits(model, pairs, lambda weights: strongest([one_step_later(each) for each in weights]))
    shifted = hits / total
    first, second = best_head(heads.accuracy), best_head(shifted)

    def choose(weights: Sequence[Tensor]) -> Tensor:
        one = weights[first.layer][:, first.head]
        return (one.double() * one_step_later(weights[second.layer])[:, second.head]).argmax(dim=-1)

    both, total = count_hits(model, pairs, choose)
    return replace(heads, shifted=shifted, product=float(both) / total)


def strongest(weights: Sequence[Tensor]) -> Tensor:
    """Return the source position (layers, H, B, T) with the most of each head's weights, a (B, H, T, S) per layer."""
    return torch.stack([layer.argmax(dim=-1).transpose(0, 1) for layer in weights])


def one_step_later(weights: Tensor) -> Tensor:
    """Return weights (B, H, T, S) of the step after each; the last, which ends the sentence, keeps its own."""
    return torch.cat([weights[:, :, 1:], weights[:, :, -1:]], dim=2)


@torch.inference_mode()
def count_hits(
    model: TranslationModel, pairs: Sequence[AnchoredPair], choose: Callable[[Sequence[Tensor]], Tensor]
) -> tuple[FloatArray, int]:
    """Return how many anchors have one of their sources chosen, as (...), and how many there are.

    ``choose`` makes source positions (..., B, T) of each layer's cross-attention weights (B, H, T, S).
    """
    start, pad = model.config.decoder_start_id, model.config.eos_id
    hits, total = np.zeros(()), 0
    for begin in range(0, len(pairs), _BATCH_PAIRS):
        batch = pairs[begin : begin + _BATCH_PAIRS]
        sources, mask = padded([pair.source for pair in batch], fill=pad)
        targets, _ = padded([[start, *pair.target[:-1]] for pair in batch], fill=pad)
        chosen = choose(model.attention_weights(sources, mask, targets).cross).numpy()
        for row, pair in enumerate(batch):
            for anchor in pair.anchors:
                hits = hits + np.isin(chosen[..., row, anchor.step], list(anchor.sources))
            total += len(pair.anchors)
    return hits, total


def padded(rows: Sequence[Sequence[int]], *, fill: int) -> tuple[Tensor, Tensor]:
    """Return rows as one tensor (B, longest) and a mask that is True at what they hold."""
    ids = torch.full((len(rows), max(len(row) for row in rows)), fill)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = True
    return ids, mask
