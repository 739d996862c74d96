"""Find the cross-attention head that says which source token each target token translates.

Some OPUS-MT models (transformer-align) have a head trained for it; others may have one that learned it. Garg et al.
2019, https://aclanthology.org/D19-1453
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from exporter.model import TranslationModel
from service.bundle import Alignment

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
class HeadScores:
    """The share (layers, heads) of anchors whose strongest source token holds the same letters, and their number."""

    accuracy: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    anchors: int

    def best(self, *, required: float = REQUIRED_ACCURACY) -> Alignment | None:
        """Return the best head, or None where too few anchors were found or none is as good as ``required``."""
        layer, head = (int(index) for index in np.unravel_index(self.accuracy.argmax(), self.accuracy.shape))
        accuracy = float(self.accuracy[layer, head])
        if self.anchors < REQUIRED_ANCHORS or accuracy < required:
            return None
        return Alignment(layer=layer, head=head, accuracy=round(accuracy, 4))


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


@torch.inference_mode()
def score_heads(
    model: TranslationModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    source_pieces: Sequence[str],
    target_pieces: Sequence[str],
) -> HeadScores:
    """Score every cross-attention head of ``model`` on pairs of source ids and answers (both with EOS)."""
    config = model.config
    hits = np.zeros((config.decoder_layers, config.heads))
    total = 0
    found: list[tuple[Sequence[int], Sequence[int], list[Anchor]]] = []
    for source, target in pairs:
        if total >= ENOUGH_ANCHORS or max(len(source), len(target)) > LONGEST_PAIR:
            continue
        anchors = anchors_of([source_pieces[index] for index in source], [target_pieces[index] for index in target])
        if anchors:
            found.append((source, target, anchors))
            total += len(anchors)
    found.sort(key=lambda pair: len(pair[0]))
    for start in range(0, len(found), _BATCH_PAIRS):
        batch = found[start : start + _BATCH_PAIRS]
        strongest = strongest_sources(model, batch)
        for row, (_, _, anchors) in enumerate(batch):
            for anchor in anchors:
                hits += np.isin(strongest[:, row, :, anchor.step], list(anchor.sources))
    return HeadScores(hits / max(total, 1), total)


def strongest_sources(
    model: TranslationModel, batch: Sequence[tuple[Sequence[int], Sequence[int], list[Anchor]]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the source position (layers, B, heads, T) that gets the most of each head's attention at each step."""
    start, pad = model.config.decoder_start_id, model.config.eos_id
    sources, mask = padded([source for source, _, _ in batch], fill=pad)
    targets, _ = padded([[start, *target[:-1]] for _, target, _ in batch], fill=pad)
    weights = model.attention_weights(sources, mask, targets).cross
    return torch.stack([layer.argmax(dim=-1) for layer in weights]).numpy()


def padded(rows: Sequence[Sequence[int]], *, fill: int) -> tuple[Tensor, Tensor]:
    """Return rows as one tensor (B, longest) and a mask that is True at what they hold."""
    ids = torch.full((len(rows), max(len(row) for row in rows)), fill)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = True
    return ids, mask
