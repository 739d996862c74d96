"""The reference's greedy answers come in batches of like length, each cut to its own limit, as if alone."""

from __future__ import annotations

from pathlib import Path

import torch

from exporter.checkpoint import load_checkpoint
from exporter.greedy import greedy_answers, greedy_decode

SOURCES = [[5, 9, 30, 44, 1], [17, 1], [20, 21, 22, 23, 24, 25, 26, 1], [40, 1]]
LIMITS = [9, 3, 12, 12]


def test_answers_in_batches_are_those_of_each_sentence_alone(tiny_checkpoint: Path) -> None:
    """Whatever shares its batch, a sentence has its own answer, forced to end at its own limit; all are counted."""
    model = load_checkpoint(tiny_checkpoint).model
    alone = []
    for source, limit in zip(SOURCES, LIMITS, strict=True):
        ids = torch.tensor([source])
        alone += greedy_decode(model, ids, torch.ones_like(ids, dtype=torch.bool), max_new_tokens=limit)
    for batch_tokens in (1, 16, 1000):
        done: list[int] = []
        found = greedy_answers(model, SOURCES, LIMITS, batch_tokens=batch_tokens, progress=done.append)
        assert found == alone
        assert sum(done) == len(SOURCES)
    assert all(len(answer) <= limit for answer, limit in zip(found, LIMITS, strict=True))
    assert all(answer[-1] == model.config.eos_id for answer in found)
