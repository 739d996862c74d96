"""Attention weights of the alignment head from its queries and the cached keys."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def attention_weights(queries: FloatArray, keys: npt.NDArray[np.generic]) -> FloatArray:
    """softmax(queries . keys) over the source: (steps, head) and (source, head) of any type -> (steps, source).

    The queries come scaled by 1 / sqrt(head), and by what a step of the keys is worth where those are int8.
    """
    scores = queries @ keys.T.astype(np.float32)
    weights: FloatArray = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
