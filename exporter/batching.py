"""Turn encoded pairs into padded batches under a budget of tokens, sentences of like length together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exporter.guided_alignment import Links, alignment_matrix

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded pair: source ids from the target token to EOS, target ids that end with EOS, and its links."""

    source: Ids
    target: Ids
    links: Links | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded ids: source (B, S) with its mask, decoder input (B, T) and the labels (B, T) it must predict.

    ``alignment`` (B, T, S) says where each label comes from, where any pair has links.
    """

    source_ids: Tensor
    source_mask: Tensor
    target_ids: Tensor
    labels: Tensor
    label_mask: Tensor
    alignment: Tensor | None = None

    @property
    def target_tokens(self) -> int:
        """The number of tokens to predict."""
        return int(self.label_mask.sum())

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on ``device``."""
        names = ("source_ids", "source_mask", "target_ids", "labels", "label_mask")
        alignment = None if self.alignment is None else self.alignment.to(device, non_blocking=True)
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, alignment=alignment, **moved)


def pad(rows: Sequence[Ids], pad_id: int) -> tuple[Tensor, Tensor]:
    """Stack ids of unequal length into (B, longest) and a mask that is True at real tokens."""
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), int(lengths.max())), pad_id, dtype=np.int64)
    mask = np.arange(ids.shape[1])[None, :] < lengths[:, None]
    ids[mask] = np.concatenate(rows)
    return torch.from_numpy(ids), torch.from_numpy(mask)


def collate(examples: Sequence[Example], *, pad_id: int, start_id: int) -> Batch:
    """Pad examples to one batch; the decoder input is the labels moved right behind ``start_id``."""
    source_ids, source_mask = pad([example.source for example in examples], pad_id)
    labels, label_mask = pad([example.target for example in examples], pad_id)
    target_ids = torch.cat([torch.full_like(labels[:, :1], start_id), labels[:, :-1]], dim=1)
    alignment = alignment_matrix(
        [example.links for example in examples], target_length=labels.shape[1], source_length=source_ids.shape[1]
    )
    return Batch(source_ids, source_mask, target_ids, labels, label_mask, alignment)


def group_by_length(examples: Sequence[Example], *, budget: int, generator: np.random.Generator) -> list[list[int]]:
    """Return the indices of each batch, batches in random order.

    A batch holds as many pairs as fit when each costs its batch's longest source or target, whichever is longer, and
    always at least one.
    """
    sources = np.array([len(example.source) for example in examples])
    targets = np.array([len(example.target) for example in examples])
    order = np.lexsort((generator.random(len(examples)), sources, np.maximum(sources, targets)))
    cost = np.maximum(sources, targets)[order]
    batches: list[list[int]] = []
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or int(cost[end]) * (end + 1 - start) > budget:
            batches.append(order[start:end].tolist())
            start = end
    generator.shuffle(batches)
    return batches


def join(first: Example, second: Example) -> Example:
    """Concatenate two pairs: the first loses its EOS, the second its target token."""
    return Example(
        np.concatenate([first.source[:-1], second.source[1:]]),
        np.concatenate([first.target[:-1], second.target]),
        _joined_links(first, second),
    )


def _joined_links(first: Example, second: Example) -> Links | None:
    """Return the links of both, the second's moved behind the first's ids."""
    if first.links is None and second.links is None:
        return None
    none = np.zeros((0, 2), dtype=np.int32)
    shift = np.array([len(first.source) - 2, len(first.target) - 1], dtype=np.int32)
    return np.concatenate(
        [none if first.links is None else first.links, none if second.links is None else second.links + shift]
    )


def concatenate_some(
    groups: Sequence[Sequence[Example]], *, share: float, longest: int, generator: np.random.Generator
) -> list[Example]:
    """Return all examples, a ``share`` of each group (pairs of one direction) joined two to four at a time.

    Short pairs alone teach a model that texts end early; Kondo et al. 2021, https://aclanthology.org/2021.naacl-srw.19.
    """
    examples: list[Example] = []
    for group in groups:
        order = generator.permutation(len(group))
        joined = int(share * len(group))
        examples.extend(group[index] for index in order[joined:])
        current: Example | None = None
        left = 0
        for index in order[:joined]:
            if current is None or left == 0 or len(current.source) + len(group[index].source) > longest:
                if current is not None:
                    examples.append(current)
                current, left = group[index], int(generator.integers(1, 4))
            else:
                current, left = join(current, group[index]), left - 1
        if current is not None:
            examples.append(current)
    return examples


def batches_of_epoch(
    examples: Sequence[Example], *, budget: int, pad_id: int, start_id: int, generator: np.random.Generator
) -> Iterator[Batch]:
    """Yield every example once, in batches of like length and random order."""
    for indices in group_by_length(examples, budget=budget, generator=generator):
        yield collate([examples[index] for index in indices], pad_id=pad_id, start_id=start_id)
