"""How answers are compared: tokens beside a reference's, and the same sentence in different company."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.logit_parity import forced_log_probs
from exporter.serving import BundleEngine, engine_over
from service.engine import DecodingOptions, Hypothesis, ModelRunner

IdRows = list[list[int]]
GREEDY = DecodingOptions(return_token_scores=True)
"""Token scores come back, so that equal answers are equal to the last bit of every log-probability."""
NEIGHBOUR = DecodingOptions(beam_size=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDifference:
    """The first step at which a sentence's answer is not the reference's.

    `top_two_gap` is how far apart the reference's two best log-probabilities are there, `lead` how far its token is
    above the one that was found: near 0 the two were tied.
    """

    sentence: int
    step: int
    expected: int
    found: int
    top_two_gap: float
    lead: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """Sentences whose answer, log-probabilities included, was not in every company what it is alone."""

    companies: int
    sentences: list[int]


def greedy_answers(runner: ModelRunner, sources: IdRows) -> tuple[IdRows, float]:
    """Decode `sources` together; returns the answers with EOS, and tokens a second."""
    eos = runner.limits.eos_id
    with engine_over(runner) as engine:
        answers = engine.decode(sources, [DecodingOptions()] * len(sources))
    return [[*ids, eos] for ids in answers.ids], answers.tokens_per_second


def token_differences(
    reference: ModelRunner, sources: IdRows, expected: IdRows, found: IdRows
) -> list[TokenDifference]:
    """Every sentence whose tokens differ, with what the reference thought of both at the first such step."""
    differences = []
    for sentence, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
        if ours != theirs:
            step = next(index for index, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1])
            (log_probs,) = forced_log_probs(reference, [sources[sentence]], [ours[: step + 1]], lanes=1)[step]
            second, first = np.partition(log_probs, -2)[-2:]
            differences.append(
                TokenDifference(
                    sentence=sentence,
                    step=step,
                    expected=ours[step],
                    found=theirs[step],
                    top_two_gap=float(first - second),
                    lead=float(log_probs[ours[step]] - log_probs[theirs[step]]),
                )
            )
    return differences


def batch_dependence(engine: BundleEngine, sources: IdRows) -> Dependence:
    """Decode every sentence alone, then in each company, and compare bit for bit."""
    alone = [_greedy(engine, [source], [GREEDY], [0])[0] for source in sources]
    companies, differing = 0, set[int]()
    for order, company, options in _companies(sources):
        companies += 1
        for sentence, hypothesis in zip(order, _greedy(engine, company, options, range(len(order))), strict=True):
            if hypothesis != alone[sentence]:
                differing.add(sentence)
    return Dependence(companies=companies, sentences=sorted(differing))


def _companies(sources: IdRows) -> Iterator[tuple[list[int], IdRows, list[DecodingOptions]]]:
    """Order of the sentences that are compared, everything submitted (those first), and its options.

    In order, backwards, from the longest to the shortest, and among as many beam searches.
    """
    count = len(sources)
    orders = [
        list(range(count)),
        list(range(count))[::-1],
        sorted(range(count), key=lambda index: -len(sources[index])),
    ]
    for order in orders:
        yield order, [sources[index] for index in order], [GREEDY] * count
    yield orders[0], [*sources, *sources[::-1]], [*[GREEDY] * count, *[NEIGHBOUR] * count]


def _greedy(
    engine: BundleEngine, sources: IdRows, options: Sequence[DecodingOptions], compared: Sequence[int]
) -> list[Hypothesis]:
    """Decode everything together; the best hypotheses of those that are `compared`."""
    results = engine.decode(sources, options).results
    return [results[index].hypotheses[0] for index in compared]
