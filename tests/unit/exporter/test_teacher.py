"""Teacher forcing proves greedy answers and shows every product's inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from exporter.checkpoint import load_checkpoint
from exporter.greedy import greedy_decode
from exporter.model import TranslationModel
from exporter.quantize import products_of
from exporter.teacher import batches, disagreements, observe

SOURCES = [[5, 9, 30, 44, 1], [17, 1], [20, 21, 22, 23, 24, 25, 26, 1]]
LIMIT = 9


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> TranslationModel:
    """A small model of random weights."""
    return load_checkpoint(tiny_checkpoint).model


@pytest.fixture(scope="module")
def answers(model: TranslationModel) -> list[list[int]]:
    """What the model answers, one sentence at a time."""
    found = []
    for source in SOURCES:
        ids = torch.tensor([source])
        found += greedy_decode(model, ids, torch.ones_like(ids, dtype=torch.bool), max_new_tokens=LIMIT)
    return found


def test_the_models_own_answers_are_not_questioned(model: TranslationModel, answers: list[list[int]]) -> None:
    """Greedy answers, forced end included, pass; their sentences may have any lengths."""
    assert disagreements(model, SOURCES, answers, [LIMIT] * 3) == []


def test_a_token_the_model_would_not_choose_is_found(model: TranslationModel, answers: list[list[int]]) -> None:
    """One other token is reported at its sentence and step, with how far the model's own leads."""
    changed = [list(answer) for answer in answers]
    changed[1][2] = 40 if changed[1][2] != 40 else 41
    found = disagreements(model, SOURCES, changed, [LIMIT] * 3)
    assert (found[0].sentence, found[0].step) == (1, 2)
    assert found[0].gap > 0.0


def test_a_forced_end_is_not_questioned_but_a_free_one_is(model: TranslationModel, answers: list[list[int]]) -> None:
    """EOS at the limit is not the model's choice; the same EOS with room left is."""
    cut = [[*answer[:3], 1] for answer in answers]
    assert disagreements(model, SOURCES, cut, [4] * 3) == []
    assert {difference.step for difference in disagreements(model, SOURCES, cut, [LIMIT] * 3)} == {3}


def test_an_observer_sees_every_product_at_real_positions_only(
    model: TranslationModel, answers: list[list[int]]
) -> None:
    """Each product's inputs come once per real token: source ones for the encoder, target ones for the decoder."""
    seen: dict[nn.Module, int] = {}

    def count(module: nn.Linear, states: Tensor) -> None:
        seen[module] = seen.get(module, 0) + states.shape[0]

    observe(model, SOURCES, answers, count)
    source, target = sum(map(len, SOURCES)), sum(map(len, answers))
    firsts = [group[0] for group in products_of(model)]
    crossed = firsts[-2]
    encoder = set(model.encoder.modules())
    for first in firsts:
        assert seen[first] == (source if first in encoder or first is crossed else target)


def test_a_long_pair_does_not_stretch_the_short_ones() -> None:
    """No pair is padded to more than twice its length, and each is in one batch."""
    lengths = [3, 40, 4, 500, 5, 42, 3]
    found = list(batches([[1] * length for length in lengths], [[1]] * len(lengths), numbers=8))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    assert [sorted(lengths[index] for index in batch) for batch in found] == [[3, 3, 4, 5], [40, 42], [500]]
