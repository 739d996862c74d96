"""Greedy decoding with the PyTorch model: the reference that bundles are held to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from exporter.alignment import padded
from exporter.attention import KeysValues, PastKeysValues
from exporter.model import TranslationModel
from exporter.projection import Projection

BATCH_TOKENS = 4096
"""Source tokens of one batch, padding counted."""
MOST_PADDED = 2
"""No source of a batch is padded to more than this many times its length: one long source must not stretch others."""
_GATHER_BELOW = 0.75
"""Rows are gathered when no more than this share of them still runs: gathering copies keys and values."""


@torch.inference_mode()
def greedy_decode(
    model: TranslationModel, source_ids: Tensor, source_mask: Tensor, *, max_new_tokens: int
) -> list[list[int]]:
    """Translate greedily, with cached keys and values; each answer ends with EOS, the start token left out.

    ``<pad>`` is never chosen and a row that reaches ``max_new_tokens`` is given EOS there: Hugging Face's rules with
    ``bad_words_ids=[[pad]]`` and ``forced_eos_token_id``. Source ids and mask are (B, S).
    """
    config = model.config
    steps = min(max_new_tokens, config.max_positions)
    mask = source_mask[:, None, None, :]
    cross = model.cross_keys_values(model.encode(source_ids, source_mask))
    past = [PastKeysValues(pair.keys, rows=len(source_ids), capacity=steps) for pair in cross]
    projection = Projection(model, rows=len(source_ids))
    rows = torch.arange(source_ids.shape[0], device=source_ids.device)
    running = torch.ones_like(rows, dtype=torch.bool)
    answers: list[list[int]] = [[] for _ in range(source_ids.shape[0])]
    tokens = torch.full_like(source_ids[:, :1], config.decoder_start_id)
    for position in range(steps):
        states = model.embed_target(tokens, first_position=position)
        for layer, pair, before in zip(model.decoder.layers, cross, past, strict=True):
            states = layer(states, pair, mask, past=before).states
        logits = projection.logits(model.decoder.norm(states)[:, 0])
        logits[:, config.pad_id] = -torch.inf
        best = logits.argmax(dim=-1) if position + 1 < steps else torch.full_like(rows, config.eos_id)
        for row, token in zip(rows[running].tolist(), best[running].tolist(), strict=True):
            answers[row].append(token)
        running = running & (best != config.eos_id)
        left = running.nonzero()[:, 0]
        if not len(left):
            break
        if len(left) <= _GATHER_BELOW * len(running):
            rows, best, mask, running = rows[left], best[left], mask[left], running[left]
            cross = [KeysValues(pair.keys[left], pair.values[left]) for pair in cross]
            for before in past:
                before.keep(left)
        tokens = best[:, None]
    return answers


def batches_of_like_length(
    sources: Sequence[Sequence[int]], *, batch_tokens: int = BATCH_TOKENS, most_sentences: int | None = None
) -> Iterator[list[int]]:
    """Yield indices of ``sources``, longest first: what shares a batch is padded little."""
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    while order:
        batch = [order.pop()]
        longest = len(sources[batch[0]])
        most = min(batch_tokens // longest, most_sentences or len(sources))
        while order and len(batch) < most and len(sources[order[-1]]) * MOST_PADDED >= longest:
            batch.append(order.pop())
        yield batch


def greedy_answers(
    model: TranslationModel,
    sources: Sequence[Sequence[int]],
    limits: Sequence[int],
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int], None] = lambda sentences: None,
) -> list[list[int]]:
    """Translate ``sources`` (ids with EOS) in batches of like length; an answer has at most its limit, EOS counted."""
    device = model.positions.device
    eos = model.config.eos_id
    answers: list[list[int]] = [[] for _ in sources]
    for batch in batches_of_like_length(sources, batch_tokens=batch_tokens):
        ids, mask = padded([sources[index] for index in batch], fill=eos)
        most = max(limits[index] for index in batch)
        decoded = greedy_decode(model, ids.to(device), mask.to(device), max_new_tokens=most)
        for index, answer in zip(batch, decoded, strict=True):
            limit = limits[index]
            answers[index] = answer if len(answer) <= limit else [*answer[: limit - 1], eos]
        progress(len(batch))
    return answers
