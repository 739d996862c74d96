"""Sampling with temperature, top-k and top-p; random numbers depend on (seed, step) only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.engine.options import DecodingOptions
from service.engine.sequence import FloatArray

_NUCLEUS = 1024  # candidates sorted at first when no top_k bounds them; all of them if that is not enough


def uniform(seed: int, step: int) -> float:
    """A number in [0, 1) that depends on (seed, step) alone, so that no neighbour in the batch can change it.

    SplitMix64 (Steele, Lea and Flood, 2014) at position `step` of the stream `seed`.
    """
    mask = 2**64 - 1
    z = (seed * 0xD1342543DE82EF95 + (step + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return float((z ^ (z >> 31)) >> 11) * 2.0**-53


def sample(
    ids: npt.NDArray[np.integer],
    log_probs: FloatArray,
    options: DecodingOptions,
    *,
    draw: float,
    mass: float | None = None,
) -> tuple[int, float]:
    """Choose one of `ids` (K,), sorted by falling `log_probs` (K,); returns (id, its log-probability).

    Filters apply in the usual order: temperature, top-k, top-p on what top-k left (Holtzman et al., 2020: the fewest
    tokens whose probabilities reach top_p). `draw` in [0, 1) picks from what remains. `mass` is the weight of all
    tokens relative to the heaviest, where `ids` are not all of them.
    """
    count = min(options.top_k, len(ids)) if options.top_k else len(ids)
    scaled = log_probs[:count].astype(np.float64) / options.temperature
    cumulative = np.cumsum(np.exp(scaled - scaled.max()))
    if options.top_p < 1.0:
        total = cumulative[-1] if mass is None else mass
        cumulative = cumulative[: int(np.searchsorted(cumulative, options.top_p * total)) + 1]
    choice = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
    choice = min(choice, len(cumulative) - 1)
    return int(ids[choice]), float(log_probs[choice])


def sample_full_row(log_probs: FloatArray, options: DecodingOptions, *, draw: float) -> tuple[int, float]:
    """As `sample`, over the whole vocabulary: `log_probs` (V,) by token id, -inf where banned."""
    if options.top_p >= 1.0 and not options.top_k:
        return sample(np.arange(len(log_probs)), log_probs, options, draw=draw)
    if options.top_k:
        order = _best(log_probs, min(options.top_k, len(log_probs)))
        return sample(order, log_probs[order], options, draw=draw)
    scaled = (log_probs / options.temperature).astype(np.float64)
    weights = np.exp(scaled - scaled.max())
    mass = float(weights.sum())
    order = _best(log_probs, min(_NUCLEUS, len(log_probs)))
    if weights[order].sum() < options.top_p * mass:
        order = _best(log_probs, len(log_probs))
    return sample(order, log_probs[order], options, draw=draw, mass=mass)


def _best(log_probs: FloatArray, count: int) -> npt.NDArray[np.intp]:
    """The `count` most likely ids, most likely first, ties by lowest id."""
    candidates = np.argpartition(-log_probs, count - 1)[:count]
    return candidates[np.lexsort((candidates, -log_probs[candidates]))]
