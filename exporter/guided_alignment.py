"""Guided attention: teach one cross-attention head to look where a word aligner says that a token comes from.

Garg et al. 2019, https://aclanthology.org/D19-1453. Links are pairs of piece positions in the Pharaoh format, one line
for each pair of a corpus: ``0-0 1-2`` links the first pieces of source and target, and the second with the third. They
count pieces of the text alone, as the vocabulary segments it: target token and EOS have no number and no links.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exporter.data import Corpus, read_lines
from service.errors import DataError, InvalidInputError

Links = npt.NDArray[np.int32]
"""(N, 2): a source and a target position that belong together."""

_LINE = re.compile(r"(?:\d{1,6}-\d{1,6}(?: \d{1,6}-\d{1,6})*)?")
_LEAST_WEIGHT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedHead:
    """The head that is taught, and the weight of its loss beside the translation's."""

    layer: int
    head: int
    weight: float


def guided_loss(weights: Tensor, alignment: Tensor) -> Tensor:
    """Return the summed cross-entropy of a head's ``weights`` (B, T, S) against ``alignment`` (B, T, S).

    Rows of ``alignment`` are distributions over the source, or zero where a target position has no link: those are left
    out.
    """
    return -(alignment * weights.float().clamp_min(_LEAST_WEIGHT).log()).sum()


def alignment_matrix(links: Sequence[Links | None], *, target_length: int, source_length: int) -> Tensor | None:
    """Return the links of a batch as (B, T, S), each linked target position's row summing to 1; None without links."""
    if all(pair is None or not len(pair) for pair in links):
        return None
    matrix = torch.zeros(len(links), target_length, source_length)
    for row, pair in enumerate(links):
        if pair is not None and len(pair):
            positions = torch.from_numpy(pair.astype(np.int64))
            matrix[row, positions[:, 1], positions[:, 0]] = 1.0
    return matrix / matrix.sum(dim=2, keepdim=True).clamp_min(1.0)


def read_links(path: Path) -> list[Links]:
    """Read a Pharaoh file, plain or gzip; a line may be empty.

    Raises:
        DataError: naming the first line of another form.
    """
    rows: list[Links] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not _LINE.fullmatch(line.strip()):
            raise DataError(f"{path}:{number}: expected links such as 0-0 1-2, found {line[:40]!r}")
        rows.append(np.array([link.split("-") for link in line.split()], dtype=np.int32).reshape(-1, 2))
    return rows


def links_of_corpora(
    corpora: Sequence[Corpus], lines: Sequence[int], alignments: Sequence[Corpus]
) -> list[list[Links] | None]:
    """Return the links of each corpus, or None: the n-th file of a direction belongs to its n-th corpus.

    ``lines`` counts the pairs of each corpus.

    Raises:
        InvalidInputError: when a file has no corpus or names a share.
        DataError: when a file is not one line of links for each pair.
    """
    left = list(alignments)
    for file in left:
        if file.share != 1.0:
            raise InvalidInputError(f"--alignments {file.direction}: a share belongs to --data")
    found: list[list[Links] | None] = []
    for corpus, count in zip(corpora, lines, strict=True):
        mine = next((file for file in left if file.direction == corpus.direction), None)
        if mine is None:
            found.append(None)
            continue
        left.remove(mine)
        links = read_links(mine.path)
        if len(links) != count:
            raise DataError(f"{mine.path}: {len(links)} lines, but {corpus.path} has {count} pairs")
        found.append(links)
    if left:
        raise InvalidInputError(f"--alignments {left[0].direction}={left[0].path}: no --data of this direction is left")
    return found


def placed(links: Links, *, source: npt.NDArray[np.int32], target: npt.NDArray[np.int32], where: str) -> Links:
    """Return links of pieces as positions in encoded ids: ``source`` starts with a target token, both end with EOS.

    Raises:
        DataError: naming ``where`` when a link points beyond the pieces.
    """
    if len(links) and (links[:, 0].max() >= len(source) - 2 or links[:, 1].max() >= len(target) - 1):
        raise DataError(
            f"{where}: a link points beyond the {len(source) - 2} and {len(target) - 1} pieces of its pair; "
            "links must be of pieces, made with this vocabulary"
        )
    return links + np.array([1, 0], dtype=np.int32)
