"""Misspell sentences as people do, so that a model can learn to read over it.

Karpukhin et al. 2019 (https://aclanthology.org/D19-5506): synthetic letter noise in training makes a model robust to
natural misspellings. Besides letters, capitals and the final punctuation mark may be missing here.
"""

from __future__ import annotations

import re

import numpy as np

_WORD_SHARE = 0.1
_SENTENCE_SHARE = 0.1
_WORD = re.compile(r"[^\W\d_]{2,}")
_FINAL_PUNCTUATION = re.compile(r"\s*[.!?…。！？]+$")


def noised(text: str, generator: np.random.Generator) -> str:
    """Return ``text`` with a wrong letter in a tenth of its words, and seldom without capitals or its final mark."""
    text = _WORD.sub(lambda match: _misspelt(match[0], generator), text)
    if generator.random() < _SENTENCE_SHARE:
        text = text.lower()
    if generator.random() < _SENTENCE_SHARE:
        text = _FINAL_PUNCTUATION.sub("", text) or text
    return text


def _misspelt(word: str, generator: np.random.Generator) -> str:
    """Return ``word``, or with ``_WORD_SHARE`` a letter of it swapped with the next, left out, doubled or replaced."""
    if generator.random() >= _WORD_SHARE:
        return word
    at = int(generator.integers(len(word) - 1))
    before, letter, after = word[:at], word[at], word[at + 1 :]
    match int(generator.integers(4)):
        case 0:
            return before + after[0] + letter + after[1:]
        case 1:
            return before + after
        case 2:
            return before + letter + letter + after
        case _:
            return before + word[int(generator.integers(len(word)))] + after
