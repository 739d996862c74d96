"""Aligning heads are found by what they look at where the source holds the same word, and only if they are good."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from exporter import study
from exporter.alignment import (
    REQUIRED_ANCHORS,
    HeadScores,
    anchored_pairs,
    anchors_of,
    score_heads,
    score_two_heads,
)
from exporter.checkpoint import load_checkpoint
from exporter.export_options import ExportOptions
from exporter.inspect import alignment_text
from exporter.model import AttentionWeights, TranslationModel
from exporter.probes import Probes, Questions, ask
from exporter.report import describe_alignment
from exporter.sources import Corrections, read_checkpoint
from exporter.stages import Stages
from exporter.study import Subject, scored_heads
from service.bundle import Head
from tests.tiny_model import sentences

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
    scores = score_heads(model, anchored_pairs(pairs, source_pieces=PIECES, target_pieces=PIECES))
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


def half_right(self: TranslationModel, source_ids: Tensor, mask: Tensor, target_ids: Tensor) -> AttentionWeights:
    """Weights of two layers of two heads, for pairs of two anchors at the steps 0 and 1.

    Head 0 of layer 1 is sure of the first anchor's source in the step that chooses it and takes the second's for the
    last token, by a little. Head 1 of layer 0 does so the other way round one step later, with the first token. The
    others always look at the last token.
    """
    batch, source, target = source_ids.shape[0], source_ids.shape[1], target_ids.shape[1]
    layers = [torch.zeros(batch, 2, target, source) for _ in range(2)]
    for layer in layers:
        layer[:, :, :, -1] = 1.0
    for row in range(batch):
        first, second = (place_of_same(source_ids[row], target_ids[row, step]) for step in (1, 2))
        spread = torch.full((source,), 0.1 / source)
        for weights, step, right, wrong in (
            (layers[1][row, 0], 0, first, None),
            (layers[1][row, 0], 1, second, -1),
            (layers[0][row, 1], 1, first, 1),
            (layers[0][row, 1], 2, second, None),
        ):
            weights[step] = spread
            weights[step, right] += 0.9 if wrong is None else 0.4
            if wrong is not None:
                weights[step, wrong] += 0.5
    return AttentionWeights([], [], layers)


def test_two_heads_find_what_neither_finds_alone(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each head is right about half the anchors, one of them a step later; where both agree they are always right."""
    model = load_checkpoint(tiny_checkpoint).model
    monkeypatch.setattr(TranslationModel, "attention_weights", half_right)
    pairs = [([3, 5, 4, 7, 1], [3, 4, 1]), ([8, 9, 6, 7, 1], [8, 6, 1])] * REQUIRED_ANCHORS
    anchored = anchored_pairs(pairs, source_pieces=PIECES, target_pieces=PIECES)
    alone = score_heads(model, anchored)
    assert alone.best() is None
    scores = score_two_heads(model, anchored, alone)
    assert scores.accuracy.tolist() == [[0.0, 0.0], [0.5, 0.0]]
    assert scores.shifted is not None
    assert scores.shifted.tolist() == [[0.0, 0.5], [0.0, 0.0]]
    assert scores.product == 1.0
    best = scores.best()
    assert best is not None
    assert best.model_dump() == {"layer": 1, "head": 0, "accuracy": 1.0, "shifted": {"layer": 0, "head": 1}}
    tried = {
        "head": {"layer": 1, "head": 0, "accuracy": 0.5},
        "shifted": {"layer": 0, "head": 1, "accuracy": 0.5},
        "product": 1.0,
    }
    assert scores.to_report(required=0.8)["tried"] == tried


def test_two_heads_are_taken_only_where_one_is_not_enough_and_both_are() -> None:
    """A head that passes stays alone, whatever two would do; two that do not pass are no alignment either."""
    one, two = np.array([[0.8, 0.1]]), np.array([[0.1, 0.95]])
    alone = HeadScores(one, 100, two, 0.99).best()
    assert alone is not None
    assert (alone.head, alone.shifted, alone.accuracy) == (0, None, 0.8)
    assert HeadScores(one, 100, two, 0.89).best(required=0.9) is None
    both = HeadScores(one, 100, two, 0.9).best(required=0.9)
    assert both is not None
    assert both.shifted == Head(layer=0, head=1)
    assert HeadScores(one, REQUIRED_ANCHORS - 1, two, 0.9).best(required=0.9) is None


@pytest.fixture
def subject(tiny_checkpoint: Path) -> Subject:
    """The tiny model."""
    checkpoint, tokenizer = read_checkpoint(tiny_checkpoint, Corrections())
    return Subject(checkpoint=checkpoint, tokenizer=tokenizer, directory=tiny_checkpoint)


def copied(subject: Subject, count: int) -> Probes:
    """Sentences with themselves for answers."""
    return with_themselves(ask(subject.checkpoint, subject.tokenizer, sentences()[:count]))


def with_themselves(questions: Questions) -> Probes:
    """The questions without the language token for answers."""
    return Probes(questions=questions, answers=[source[1:] for source in questions.sources])


def test_a_head_that_passes_on_the_proof_is_all_that_is_asked(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further sentence is translated and no second head tried: such a bundle is what it was before."""

    def diagonal(self: TranslationModel, source_ids: Tensor, mask: Tensor, target_ids: Tensor) -> AttentionWeights:
        target, source = target_ids.shape[1], source_ids.shape[1]
        next_places = torch.eye(max(source, target) + 1)[1 : target + 1, :source]
        return AttentionWeights([], [], [next_places.expand(len(mask), 2, -1, -1)])

    def refuse(*arguments: object) -> Probes:
        raise AssertionError("more sentences were translated")

    monkeypatch.setattr(TranslationModel, "attention_weights", diagonal)
    monkeypatch.setattr(study, "answers_to", refuse)
    with Stages(1) as stages:
        heads = scored_heads(subject, copied(subject, 40), ExportOptions(), stages)
    assert heads.best() is not None
    assert (heads.shifted, heads.product) == (None, None)
    assert "tried" not in heads.to_report(required=0.8)


def test_two_heads_are_judged_on_enough_sentences_however_short_the_proof(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof of 40 sentences is filled up with generated ones before two heads are tried, the same every time."""
    monkeypatch.setattr(study, "answers_to", lambda subject, questions, stages: with_themselves(questions))
    probes = copied(subject, 40)
    few = score_heads(subject.checkpoint.model, study.anchored(subject, probes))
    with Stages(1) as stages:
        first, second = (scored_heads(subject, probes, ExportOptions(), stages) for _ in range(2))
        asked = study.enough_probes(subject, probes, stages)
    assert len(asked.sources) >= study.ALIGNMENT_SENTENCES
    assert asked.part(slice(40)) == probes
    assert first.anchors > few.anchors
    assert first.product is not None
    assert first.to_report(required=0.8) == second.to_report(required=0.8)


def test_the_summary_and_the_table_say_what_was_tried() -> None:
    """One head is named alone; of two, and of two that did not pass, the shares tried are said."""
    one, two = np.array([[0.722, 0.1]]), np.array([[0.1, 0.777]])
    alone, passed, failed = HeadScores(one, 100), HeadScores(one, 100, two, 0.822), HeadScores(one, 100, two, 0.79)
    said = {
        name: describe_alignment(scores.best(required=required), scores.to_report(required=required))
        for name, scores, required in (("alone", alone, 0.7), ("passed", passed, 0.8), ("failed", failed, 0.8))
    }
    assert said["alone"] == "layer 0, head 0, right for 72% of copied words"
    assert said["passed"] == (
        "layer 0, head 0 times layer 0, head 1 one step later, right for 82% of copied words"
        " (best head 72.2%, best one step later 77.7%, their product 82.2%)"
    )
    assert said["failed"] == (
        "no head is good enough: this model gives no alignments"
        " (best head 72.2%, best one step later 77.7%, their product 79.0%)"
    )
    texts = [alignment_text(scores.best(required=0.7)) for scores in (alone, passed)]
    assert texts == ["layer 0, head 0, accuracy 72.2%"] * 2
    assert alignment_text(passed.best()) == "layer 0, head 0 times layer 0, head 1 one step later, accuracy 82.2%"
    assert alignment_text(failed.best()) == "none"
