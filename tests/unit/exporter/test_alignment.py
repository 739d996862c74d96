"""Aligning heads are found by what they look at where the source holds the same word, and only if they are good."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from exporter.alignment import REQUIRED_ANCHORS, HeadScores, anchors_of, score_heads
from exporter.checkpoint import load_checkpoint
from exporter.model import AttentionWeights, TranslationModel

PIECES = ("<pad>", "</s>", "<unk>", "\u2581Anna", "\u25811995", "\u2581the", "12", "\u2581a", "\u2581Paris", ",")


def found(source: Sequence[str], target: Sequence[str]) -> list[tuple[int, set[int]]]:
    """The anchors of a pair as plain values."""
    return [(anchor.step, set(anchor.sources)) for anchor in anchors_of(source, target)]


def test_anchors_are_copied_words_and_numbers() -> None:
    """Numbers and words of two letters or more that stand on both sides count, with every place they stand at."""
    source = ["\u2581Anna", "\u2581saw", "\u25811995", ",", "Anna", "\u2581a"]
    target = ["1995", "\u2581sah", ",", "\u2581a", "\u2581Anna", "\u25817"]
    assert found(source, target) == [(0, {2}), (4, {0, 4})]


def test_a_part_of_a_word_is_no_anchor() -> None:
    """The same piece inside two different words does not translate one by the other."""
    assert found(["\u2581an", "\u2581apple"], ["\u2581fahr", "an"]) == []


def test_each_piece_of_a_copied_word_has_its_own_letters_as_source() -> None:
    """A word that both sides hold is matched letter by letter, though they cut it into other pieces."""
    assert found(["\u2581N", "ASA", "\u2581in"], ["\u2581NA", "SA", "\u2581im"]) == [(0, {0, 1}), (1, {1})]


def test_a_name_between_letters_of_another_script_is_a_word() -> None:
    """Chinese writes no spaces, yet a Latin name or a number inside it can be found again in the translation."""
    assert found(["\u2581\u57282020", "NASA", "\u7684"], ["\u2581NASA", "\u25812020"]) == [(0, {1}), (1, {0})]


def test_control_tokens_are_no_words() -> None:
    """The target language's token and the end of the sentence are not copied text."""
    assert found([">>de<<", "\u2581de", "</s>"], ["\u2581de", "</s>"]) == [(0, {1})]


def place_of_same(source: Tensor, target: Tensor) -> int:
    """Where the first token equal to ``target`` stands in ``source``."""
    return int((source == target).nonzero()[0, 0]) if bool((source == target).any()) else 0


@pytest.fixture
def pairs() -> list[tuple[Sequence[int], Sequence[int]]]:
    """Pairs that copy two words each, in another order."""
    return [([3, 5, 4, 7, 1], [4, 3, 1]), ([8, 6, 1], [6, 8, 1])] * (REQUIRED_ANCHORS // 2)


def test_the_head_that_looks_at_the_same_word_is_found(
    tiny_checkpoint: Path, pairs: list[tuple[Sequence[int], Sequence[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two heads, the one that attends to the word being copied scores 1 and is chosen; the other is not."""
    model = load_checkpoint(tiny_checkpoint).model

    def weights(self: TranslationModel, source_ids: Tensor, mask: Tensor, target_ids: Tensor) -> AttentionWeights:
        batch, source, target = source_ids.shape[0], source_ids.shape[1], target_ids.shape[1]
        made = torch.zeros(batch, 2, target, source)
        made[:, 0, :, -1] = 1.0
        for row in range(batch):
            for step in range(target - 1):
                made[row, 1, step, place_of_same(source_ids[row], target_ids[row, step + 1])] = 1.0
        return AttentionWeights([], [], [made])

    monkeypatch.setattr(TranslationModel, "attention_weights", weights)
    scores = score_heads(model, pairs, source_pieces=PIECES, target_pieces=PIECES)
    assert scores.anchors == 2 * len(pairs)
    best = scores.best()
    assert best is not None
    assert (best.layer, best.head) == (0, 1)
    assert best.accuracy == 1.0
    assert scores.accuracy[0, 0] < 0.8


def test_few_anchors_or_poor_heads_are_no_alignment() -> None:
    """A perfect score on a handful of words proves nothing, and 79% is not enough."""
    perfect = np.array([[1.0]])
    assert HeadScores(perfect, REQUIRED_ANCHORS - 1).best() is None
    assert HeadScores(perfect, REQUIRED_ANCHORS).best() is not None
    weak = HeadScores(np.array([[0.79]]), 1000)
    assert weak.best() is None
    accepted = weak.best(required=0.5)
    assert accepted is not None
    assert accepted.accuracy == 0.79
