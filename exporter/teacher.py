"""Run the PyTorch model along given answers: all positions at once, each product's inputs shown to an observer.

An answer is the model's own greedy one exactly when at every step the model prefers its token, so one pass over
finished answers proves them, far faster than decoding again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from exporter.alignment import padded
from exporter.greedy import MOST_PADDED
from exporter.layers import decoder_layers
from exporter.model import TranslationModel

BATCH_NUMBERS = 2**25
"""Numbers of the widest tensor of one batch, padding included."""

Observer = Callable[[nn.Linear, Tensor], None]
IdRows = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A step of an answer where the model prefers another token, and by how much its logit leads."""

    sentence: int
    step: int
    gap: float


@torch.inference_mode()
def observe(model: TranslationModel, sources: IdRows, answers: IdRows, observer: Observer) -> None:
    """Show ``observer`` the input (N, I) of every linear map at real positions along ``answers`` (ids with EOS)."""
    for batch in batches(sources, answers, numbers=model.config.encoder_ffn):
        ids, source_mask, targets, target_mask = forced(model, sources, answers, batch)
        with observed(model, observer, source_mask, target_mask):
            model.decode(targets, model.encode(ids, source_mask), source_mask)


@torch.inference_mode()
def disagreements(model: TranslationModel, sources: IdRows, answers: IdRows, limits: Sequence[int]) -> list[Difference]:
    """Return where ``model`` would have chosen otherwise than ``answers`` do (ids with EOS; padding never chosen).

    The last token of an answer as long as its limit is forced and not asked about.
    """
    config = model.config
    differences: list[Difference] = []
    for batch in batches(sources, answers, numbers=config.target_vocabulary_size):
        ids, source_mask, targets, _ = forced(model, sources, answers, batch)
        logits = model(ids, source_mask, targets)
        logits[:, :, config.pad_id] = -torch.inf
        chosen, _ = padded([answers[index] for index in batch], fill=config.eos_id)
        leads = logits.amax(dim=-1) - logits.gather(2, chosen[:, :, None])[:, :, 0]
        for row, index in enumerate(batch):
            asked = min(len(answers[index]), limits[index] - 1)
            for step in leads[row, :asked].nonzero()[:, 0].tolist():
                differences.append(Difference(sentence=index, step=step, gap=float(leads[row, step])))
    return sorted(differences, key=lambda difference: (difference.sentence, difference.step))


class Forced(NamedTuple):
    """One batch along given answers: source ids and mask (B, S), target ids that begin with the start token (B, T)."""

    ids: Tensor
    source_mask: Tensor
    targets: Tensor
    target_mask: Tensor


def forced(model: TranslationModel, sources: IdRows, answers: IdRows, batch: Sequence[int]) -> Forced:
    """Return the pairs that ``batch`` numbers, padded."""
    config = model.config
    starts = [[config.decoder_start_id, *answers[index][:-1]] for index in batch]
    return Forced(*padded([sources[index] for index in batch], fill=config.eos_id), *padded(starts, fill=config.eos_id))


def batches(sources: IdRows, answers: IdRows, *, numbers: int) -> Iterator[list[int]]:
    """Yield indices of pairs of like length, so that ``numbers`` of each position stay within ``BATCH_NUMBERS``."""
    lengths = [max(len(source), len(answer)) for source, answer in zip(sources, answers, strict=True)]
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        full = (len(batch) + 1) * lengths[index] * numbers > BATCH_NUMBERS
        if batch and (full or lengths[index] > MOST_PADDED * lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@contextmanager
def observed(model: TranslationModel, observer: Observer, source_mask: Tensor, target_mask: Tensor) -> Iterator[None]:
    """Call ``observer`` with the input (N, I) of every linear map; masks (B, positions) are True at tokens."""
    source_maps: set[nn.Module] = set(model.encoder.modules())
    for layer in decoder_layers(model):
        source_maps |= {layer.cross_attention.key, layer.cross_attention.value}

    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Linear):
            observer(module, arguments[0][source_mask if module in source_maps else target_mask])

    def projected(norm: nn.Module, arguments: tuple[Tensor, ...], states: Tensor) -> None:
        observer(model.output, states[target_mask])  # the model multiplies by its weight, not through it

    handles = [module.register_forward_pre_hook(hook) for module in model.modules() if isinstance(module, nn.Linear)]
    handles.append(model.decoder.norm.register_forward_hook(projected))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
