"""The reference's beam search is that of ``transformers``: the same hypotheses in the same order, equal in score."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from exporter.beam import BeamAnswer, beam_answers
from exporter.beam_proof import BEAM_SIZE
from exporter.checkpoint import load_checkpoint
from exporter.layers import decoder_layers
from exporter.model import TranslationModel
from exporter.sources import Corrections, read_checkpoint
from tests.doubles.marian_checkpoints import VARIANTS, Variant, make_checkpoint
from tests.doubles.transformers_beams import transformers_beams

SOURCE_LENGTHS = (1, 1, 2, 3, 3, 5, 6, 8, 11, 13, 30, 63)
LIMIT = 20
END_LEADS = (2.0, 5.0, 6.0, 8.0, 5.0, 6.0, 5.0, 1.0, 2.0)
"""What is added to each variant's logit of EOS, so that answers end at many lengths, the limit among them."""


def some_sources(model: TranslationModel) -> list[list[int]]:
    """Random source ids of several lengths, EOS at their end."""
    usable = range(2, model.config.pad_id)
    generator = random.Random(1)
    return [[*generator.choices(usable, k=length), model.config.eos_id] for length in SOURCE_LENGTHS]


def assert_same(found: list[list[BeamAnswer]], expected: list[list[BeamAnswer]]) -> None:
    """Compare the hypotheses of all sentences, tokens exactly and scores closely."""
    for ours, theirs in zip(found, expected, strict=True):
        assert [answer.ids for answer in ours] == [answer.ids for answer in theirs]
        assert [answer.score for answer in ours] == pytest.approx([answer.score for answer in theirs], abs=1e-4)


@pytest.mark.parametrize(
    ("variant", "lead"), list(zip(VARIANTS, END_LEADS, strict=True)), ids=[variant.name for variant in VARIANTS]
)
def test_hypotheses_and_scores_are_those_of_transformers(variant: Variant, lead: float, tmp_path: Path) -> None:
    """All four hypotheses of sentences of all lengths, searched together, some ended by the limit and some before."""
    directory, theirs = make_checkpoint(tmp_path, variant)
    theirs.final_logits_bias[:, 0] += lead
    theirs.save_pretrained(directory)
    model = read_checkpoint(directory, Corrections(source="en"))[0].model
    sources = some_sources(model)
    found = beam_answers(model, sources, [LIMIT] * len(sources), beams=BEAM_SIZE)
    assert_same(found, transformers_beams(directory, sources, limit=LIMIT))
    lengths = {len(answer.ids) for answers in found for answer in answers}
    assert LIMIT - 1 in lengths
    assert len(lengths) >= 4


@pytest.mark.parametrize("limit", [2, 3])
def test_the_smallest_limits_are_those_of_transformers(limit: int, tmp_path: Path) -> None:
    """Where the end is forced when beams have hardly spread."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[0])
    model = read_checkpoint(directory, Corrections())[0].model
    sources = some_sources(model)
    found = beam_answers(model, sources, [limit] * len(sources), beams=BEAM_SIZE)
    assert_same(found, transformers_beams(directory, sources, limit=limit))


def test_each_sentence_has_its_own_answers_and_limit(tiny_checkpoint: Path) -> None:
    """Whatever shares its batch, a sentence is answered as if alone, up to its own limit; all are counted."""
    model = load_checkpoint(tiny_checkpoint).model
    sources = [[5, 9, 30, 44, 1], [17, 1], [20, 21, 22, 23, 24, 25, 26, 1], [40, 1], [33, 34, 35, 36, 1]]
    limits = [9, 3, 12, 12, 1]
    done: list[int] = []
    found = beam_answers(model, sources, limits, beams=BEAM_SIZE, progress=done.append)
    alone = [beam_answers(model, [each], [limit], beams=4)[0] for each, limit in zip(sources, limits, strict=True)]
    assert_same(found, alone)
    assert [len(answers[0].ids) for answers in found] == [limit - 1 for limit in limits]
    assert sum(done) == len(sources)


def test_beams_of_a_sentence_share_its_keys_and_values(tiny_checkpoint: Path) -> None:
    """A layer gives rows that share a sentence what it gives each beside a copy of the sentence."""
    model = load_checkpoint(tiny_checkpoint).model
    layer = decoder_layers(model)[0]
    with torch.inference_mode():
        memory = torch.randn(2, 5, model.config.d_model)
        mask = torch.tensor([[True] * 5, [True, True, True, False, False]])[:, None, None, :]
        states = torch.randn(6, 1, model.config.d_model)
        shared = layer(states, layer.cross_attention.project(memory), mask).states
        copied = layer(
            states,
            layer.cross_attention.project(memory.repeat_interleave(3, dim=0)),
            mask.repeat_interleave(3, dim=0),
        ).states
    torch.testing.assert_close(shared, copied)
