"""Texts of mixed lengths from sentences of like length, as one service gets both titles and sentences of law."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_CLAUSES = re.compile(r"(?<=[,;:，、；：])\s*")
_END = re.compile(r"[.。!！?？…\s]+$")
CLAUSE, SENTENCE, PERIOD = "clause", "sentence", "period"
SHARES = {CLAUSE: 0.4, SENTENCE: 0.4, PERIOD: 0.2}


def mixed_lengths(sentences: Sequence[str], *, seed: int) -> tuple[str, ...]:
    """As many texts as `sentences`: 40% one of their clauses, 40% one of them, 20% two or three made one by commas.

    Equal seeds give equal texts. Each is one sentence still: only the last of those joined keeps its full stop.
    """
    generator = random.Random(seed)
    return tuple(_text(sentences, generator) for _ in sentences)


def _text(sentences: Sequence[str], generator: random.Random) -> str:
    kind = generator.choices(list(SHARES), weights=list(SHARES.values()))[0]
    sentence = generator.choice(sentences)
    if kind == CLAUSE:
        return generator.choice([clause for clause in _CLAUSES.split(sentence) if clause.strip()] or [sentence])
    if kind == SENTENCE:
        return sentence
    before = generator.choices(sentences, k=generator.choice((1, 2)))
    comma = "，" if any(mark in sentence for mark in "。，、") else ", "
    return comma.join([*(_END.sub("", each) for each in before), sentence])
