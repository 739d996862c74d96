"""English-looking texts made from a seed, as long as real ones: sentences of everyday speech, of parliament, documents.

What they say is nonsense; only their lengths are meant to be real. They are drawn from the word counts of Tatoeba's
English sentences (1,500 of its development set) and of Europarl's (19,455 sentences).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

WORDS = """
after again against agreement all always and another answer any argument as at away back beautiful because before
behind better between big book both bread bring brother but buy by can cannot car chair child children city clear
close cold commission committee common concern council country day decision did different do door during each early
east economic economy European evening every example far father few find first five flower food for forward four
friend from garden give good government great green group had hand hard has have he her here him his home house how I
if important in information interest into is it its just keep kitchen know late law leave left less letter life light
little long look made make many market matter me measure meeting member men message minister minute money month more
morning most mother much must my name near never new next night no nobody north not nothing now number of off often
old on once one only open or other our out over own paper parliament past people perhaps place plan please point
policy position possible present president price problem programme proposal question quickly quite rain read ready
really reason red region remain report resolution result right river road room rule said same say school sea second
see sentence several she short should side since sister small so social some something soon south speak spring state
station still stop street strong summer support table take teacher tell than that the their them then there these they
thing think this those three through time to today together tomorrow too town train treaty tree true two under union
until up us use very village vote wait walk want war was water way we week well were west what when where which while
white who why will window winter with without woman word work world would write year yes yesterday yet you young your
""".split()  # noqa: SIM905 - a list of 250 strings would fill five screens
QUANTILES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
MOST_SENTENCES = 8


@dataclass(frozen=True, slots=True)
class LengthClass:
    """A class of texts: words per sentence at QUANTILES, and whether a text has several sentences."""

    words: tuple[float, ...]
    is_document: bool = False


SHORT = LengthClass((1, 2, 4, 5, 6, 9, 11, 23, 30))
LONG = LengthClass((2, 4, 9, 15, 23, 33, 46, 75, 90))
DOCUMENT = LengthClass(LONG.words, is_document=True)
MIXED = ((0.6, SHORT), (0.35, LONG), (0.05, DOCUMENT))
"""What a service for people and programs might see: mostly short."""


def generated_texts(length_class: LengthClass, *, count: int, seed: int) -> tuple[str, ...]:
    """``count`` texts of one class; equal seeds give equal texts."""
    generator = random.Random(seed)
    return tuple(_text(length_class, generator) for _ in range(count))


def mixed_texts(*, count: int, seed: int) -> tuple[str, ...]:
    """``count`` texts of the classes of MIXED, shuffled."""
    generator = random.Random(seed)
    classes = generator.choices([each for _, each in MIXED], [weight for weight, _ in MIXED], k=count)
    return tuple(_text(each, generator) for each in classes)


def _text(length_class: LengthClass, generator: random.Random) -> str:
    count = generator.randint(2, MOST_SENTENCES) if length_class.is_document else 1
    return " ".join(_sentence(length_class, generator) for _ in range(count))


def _sentence(length_class: LengthClass, generator: random.Random) -> str:
    count = max(1, round(float(np.interp(generator.random(), QUANTILES, length_class.words))))
    words = [generator.choice(WORDS) for _ in range(count)]
    for comma in range(generator.randint(6, 12), count - 3, generator.randint(8, 12)):
        words[comma] += ","
    words[0] = words[0].capitalize()
    return " ".join(words) + generator.choice("...?")
