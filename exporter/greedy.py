"""Greedy decoding with the PyTorch model: the reference that bundles are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from exporter.alignment import padded
from exporter.attention import KeysValues
from exporter.model import TranslationModel

BATCH_TOKENS = 8192
"""Source tokens of one batch, padding counted."""


@torch.inference_mode()
def greedy_decode(
    model: TranslationModel, source_ids: Tensor, source_mask: Tensor, *, max_new_tokens: int
) -> list[list[int]]:
    """Translate greedily, with cached keys and values; each answer ends with EOS, the start token left out.

    ``<pad>`` is never chosen and a row that reaches ``max_new_tokens`` is given EOS there: Hugging Face's rules with
    ``bad_words_ids=[[pad]]`` and ``forced_eos_token_id``. Source ids and mask are (B, S).
    """
    config = model.config
    mask = source_mask[:, None, None, :]
    cross = model.cross_keys_values(model.encode(source_ids, source_mask))
    past: list[KeysValues | None] = [None] * config.decoder_layers
    rows = torch.arange(source_ids.shape[0], device=source_ids.device)
    answers: list[list[int]] = [[] for _ in range(source_ids.shape[0])]
    tokens = torch.full_like(source_ids[:, :1], config.decoder_start_id)
    for position in range(min(max_new_tokens, config.max_positions)):
        states = model.embed_target(tokens, first_position=position)
        for index, layer in enumerate(model.decoder.layers):
            output = layer(states, cross[index], mask, past=past[index])
            states, past[index] = output.states, output.past
        logits = model.logits(model.decoder.norm(states))[:, 0]
        logits[:, config.pad_id] = -torch.inf
        best = logits.argmax(dim=-1)
        if position + 1 == min(max_new_tokens, config.max_positions):
            best = torch.full_like(best, config.eos_id)
        for row, token in zip(rows.tolist(), best.tolist(), strict=True):
            answers[row].append(token)
        running = best != config.eos_id
        if not bool(running.any()):
            break
        if not bool(running.all()):
            rows, best, mask = rows[running], best[running], mask[running]
            cross = [KeysValues(*(tensor[running] for tensor in pair)) for pair in cross]
            past = [pair and KeysValues(*(tensor[running] for tensor in pair)) for pair in past]
        tokens = best[:, None]
    return answers


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
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    answers: list[list[int]] = [[] for _ in sources]
    while order:
        batch = [order.pop()]
        longest = len(sources[batch[0]])
        while order and (len(batch) + 1) * longest <= batch_tokens:
            batch.append(order.pop())
        ids, mask = padded([sources[index] for index in batch], fill=eos)
        most = max(limits[index] for index in batch)
        decoded = greedy_decode(model, ids.to(device), mask.to(device), max_new_tokens=most)
        for index, answer in zip(batch, decoded, strict=True):
            limit = limits[index]
            answers[index] = answer if len(answer) <= limit else [*answer[: limit - 1], eos]
        progress(len(batch))
    return answers
