"""The reduction that ends a decode step: log-probabilities, bans and the exact K best of each row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from exporter import symbolic
from service.graph_names import CHUNK


class Selection(NamedTuple):
    """The best ids (R, k) int64 with their log-probabilities, and all of them for some rows (F, V), after the bans."""

    top_ids: Tensor
    top_log_probs: Tensor
    log_probs: Tensor


def select(logits: Tensor, bans: Tensor, k: Tensor, full_rows: Tensor) -> Selection:
    """Return the ``k`` best of each row of ``logits`` (R, V), exactly, with equal ones in the order of their ids.

    The k best entries lie in the k chunks with the largest maxima (ties: the first chunk), so two small searches
    replace one over the vocabulary. The chosen chunks are put back in the order of their ids so that the second
    search's ties come out right too. Whole rows are copied for ``full_rows`` (F) int64 alone: were all of them an
    output, the runtime could not ban in place.
    """
    rows, size = logits.shape
    count = symbolic.positive_size(k)
    log_probs = logits.float().log_softmax(dim=-1)
    banned = symbolic.by_row(bans[:, 1], rows)
    log_probs = symbolic.scatter(log_probs, banned, torch.full_like(banned, -torch.inf, dtype=torch.float32))
    chunks = log_probs.reshape(rows, size // CHUNK, CHUNK)
    chunk_count = torch.minimum(k, torch.full_like(k, size // CHUNK))
    _, best_chunks = symbolic.top_k(chunks.amax(dim=-1), chunk_count, count)
    best_chunks, _ = symbolic.top_k(best_chunks, chunk_count, count, largest=False)
    first_chunk = torch.arange(rows)[:, None] * (size // CHUNK)
    candidates = chunks.reshape(-1, CHUNK).index_select(0, (best_chunks + first_chunk).reshape(-1))
    top_log_probs, places = symbolic.top_k(candidates.reshape(rows, -1), k, count)
    chunk_of = best_chunks.gather(1, symbolic.divide(places, CHUNK))
    return Selection(chunk_of * CHUNK + places % CHUNK, top_log_probs, log_probs.index_select(0, full_rows))
