"""Attention weights of the alignment heads from their queries and the cached keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def attention_weights(queries: FloatArray, keys: Sequence[npt.NDArray[np.generic]]) -> FloatArray:
    """softmax of the heads' summed scores over the source, as (steps, source).

    `queries` (steps, heads x head) are those of a hypothesis' consecutive steps, EOS last, the heads side by side, and
    `keys` one (source, head) of any type for each head, of which there are one or two. The second is shifted: a token's
    row takes its query of the next step, where that token is the input (Chen et al. 2020,
    https://aclanthology.org/2020.emnlp-main.42). EOS is never an input, so the last row has the first head alone. The
    softmax of a sum is the renormalised product of the softmaxes.

    The queries come scaled by 1 / sqrt(head), and by what a step of the keys is worth where those are int8.
    """
    size = keys[0].shape[1]
    scores = queries[:, :size] @ keys[0].T.astype(np.float32)
    for shifted in keys[1:]:
        scores[:-1] += queries[1:, size:] @ shifted.T.astype(np.float32)
    weights: FloatArray = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
