"""What is asked of a server: kinds of calls with the texts they send, mixed by weight."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtests.corpus import draw_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of call. `length_penalty` None leaves the server's default, `stops_at_best` ends a beam search as Marian
    does. A caller who `vanishes_after_seconds` cancels then; one with `pause_seconds` reads slowly, a
    pause before each message of a stream."""

    name: str
    beam_size: int = 1
    length_penalty: float | None = None
    stops_at_best: bool = False
    streaming: bool = False
    vanishes_after_seconds: float | None = None
    pause_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One call to be made."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a mix: how often its kind is drawn, beside the other parts' weights, and what it sends."""

    weight: float
    kind: Kind
    texts: tuple[str, ...]


GREEDY = Kind(name="greedy")


def draw_requests(parts: Sequence[Part], *, seed: int) -> Iterator[Request]:
    """Requests without end; equal seeds give equal requests."""
    generator = random.Random(seed)
    texts = [draw_texts(part.texts, seed=seed + number) for number, part in enumerate(parts)]
    weights = [part.weight for part in parts]
    numbers = range(len(parts))
    while True:
        (number,) = generator.choices(numbers, weights)
        yield Request(parts[number].kind, next(texts[number]))
