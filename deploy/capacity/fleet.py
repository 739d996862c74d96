"""A simulated fleet: replicas that take turns as the engine's workers do, with step times measured on a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtests.sleeping_server.step_times import StepTimes

FloatArray = npt.NDArray[np.float64]

MEAN_TOKENS = 28.0
"""Of a sentence, source and target alike; their number is spread as a gamma distribution of shape 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What became of the calls (of one sentence each) that arrived after the warm-up.

    `latencies` in seconds; `rows` is the mean of row slots in use over all replicas and turns' time.
    """

    latencies: FloatArray
    rows: float

    def quantile(self, share: float) -> float:
        """A quantile of the latencies."""
        return float(np.quantile(self.latencies, share))


def serve(
    rates: FloatArray, *, seconds: float, times: StepTimes, slots: int, rng: np.random.Generator, warm_up: float = 0.25
) -> Served:
    """Every replica with Poisson arrivals at its own rate (calls a second), one worker of `slots` rows.

    Replicas know nothing of each other, so each has its own clock; a turn admits, encodes and takes a step.
    """
    replicas = len(rates)
    arrivals, tokens = _arrivals(rates, seconds, rng)
    each = np.arange(replicas)
    clock, following = np.zeros(replicas), np.zeros(replicas, np.intp)
    left = np.zeros((replicas, slots), np.int64)
    began = np.zeros((replicas, slots))
    latencies: list[FloatArray] = []
    row_seconds = busy_seconds = 0.0
    while (running := clock < seconds).any():
        rows = (left > 0).sum(axis=1)
        idle = running & (rows == 0)
        clock[idle] = np.maximum(clock[idle], arrivals[each, following][idle])
        running &= clock < seconds
        encoded = np.zeros(replicas)
        while (joins := running & (rows < slots) & (arrivals[each, following] <= clock)).any():
            who = each[joins]
            free = np.argmin(left[who] > 0, axis=1)
            length = tokens[who, following[who]]
            left[who, free], began[who, free] = length, arrivals[who, following[who]]
            encoded[who] += length
            rows[who] += 1
            following[who] += 1
        took = np.interp(rows, (0, *times.step.sizes), (0, *times.step.seconds))
        took += np.interp(encoded, (0, *times.encode.sizes), (0, *times.encode.seconds))
        took[~running] = 0.0
        clock += took
        row_seconds += float((rows * took).sum())
        busy_seconds += float(took.sum())
        left[running] -= left[running] > 0
        done = (left == 0) & (began > 0) & running[:, None]
        counted = done & (began > warm_up * seconds)
        latencies.append((clock[:, None] - began)[counted])
        began[done] = 0.0
    return Served(latencies=np.concatenate(latencies), rows=row_seconds / (seconds * replicas))


def capacity(times: StepTimes, slots: int) -> float:
    """Calls a second that one replica ends when there are always more than its slots hold."""
    step = float(np.interp(slots, times.step.sizes, times.step.seconds))
    # As many tokens are encoded as are decoded, a row each per step.
    encode = float(np.interp(slots, (0, *times.encode.sizes), (0, *times.encode.seconds)))
    return slots / ((step + encode) * MEAN_TOKENS)


def _arrivals(rates: FloatArray, seconds: float, rng: np.random.Generator) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Times (replicas, calls), padded with infinity, and the tokens of each."""
    most = int(rates.max() * seconds + 6 * np.sqrt(rates.max() * seconds) + 16)
    gaps = rng.exponential(1.0, (len(rates), most)) / rates[:, None]
    times = np.cumsum(gaps, axis=1)
    times[times >= seconds] = np.inf
    times[:, -1] = np.inf
    tokens = np.maximum(1, rng.gamma(3.0, MEAN_TOKENS / 3.0, times.shape)).astype(np.int64)
    return times, tokens
