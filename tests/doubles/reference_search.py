"""Greedy and beam search written the plain way, one sentence at a time: what the engine must agree with.

Follows the search of transformers' generate (num_beams, early_stopping=False, forced EOS at the output limit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Predict = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""Log-probabilities (V,) of the next token after a history that begins with the start token."""


def greedy(predict: Predict, *, start: int, eos: int, pad: int, limit: int) -> list[int]:
    """Ids without start token and EOS."""
    history = [start]
    while len(history) < limit:
        log_probs = predict(history).copy()
        log_probs[pad] = -np.inf
        token = int(log_probs.argmax())
        if token == eos:
            break
        history.append(token)
    return history[1:]


def beam(
    predict: Predict, *, start: int, eos: int, pad: int, limit: int, size: int, length_penalty: float = 1.0
) -> list[tuple[float, list[int]]]:
    """(score, ids) of the finished hypotheses, best first."""
    running: list[tuple[np.float32, list[int]]] = [(np.float32(0.0), [start])]
    finished: list[tuple[float, list[int]]] = []
    for length in range(1, limit + 1):
        if length == limit:
            finished += [(float(score) / length**length_penalty, history[1:]) for score, history in running]
            finished = sorted(finished, key=lambda each: -each[0])[:size]
            break
        candidates: list[tuple[np.float32, list[int], int]] = []
        for score, history in running:
            log_probs = predict(history).copy()
            log_probs[pad] = -np.inf
            for token in np.argsort(-log_probs, kind="stable")[: 2 * size].tolist():
                candidates.append((np.float32(score + log_probs[token]), history, token))
        candidates = sorted(candidates, key=lambda each: -each[0])[: 2 * size]
        finished += [
            (float(score) / length**length_penalty, history[1:])
            for score, history, token in candidates[:size]
            if token == eos
        ]
        finished = sorted(finished, key=lambda each: -each[0])[:size]
        running = [(score, [*history, token]) for score, history, token in candidates if token != eos][:size]
        if len(finished) == size and float(running[0][0]) / length**length_penalty <= finished[-1][0]:
            break
    return finished
