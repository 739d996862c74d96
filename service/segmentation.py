"""Cuts a text into sentences, and sentences that are too long into pieces, without losing a character.

Everything between two pieces is white space of the text, which the translation keeps as it was. Line breaks always
separate sentences, so that they can come back in their places. Sentence ends are found by sentencex
(https://github.com/wikimedia/sentencex), which knows abbreviations and full stops of some 300 languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import sentencex

# Languages whose sentences and words follow each other without a space.
UNSPACED_LANGUAGES = frozenset({"bo", "dz", "ja", "km", "lo", "my", "th", "wuu", "yue", "zh"})

_LINE = re.compile(r"[^\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]+")
# After a comma, semicolon, colon, dash or closing bracket that a space follows, or a full-width or Arabic one.
_CLAUSE_END = re.compile(r"[,;:)\]}»”–—…](?=\s)|[、，；：）】」』،؛]|(?<=\s)[–—-](?=\s)")
_SPACE = re.compile(r"\s+")


class Boundary(Enum):
    """What the end of a piece was recognised by."""

    SENTENCE = "sentence"
    CLAUSE = "clause"
    WORD = "word"
    CHARACTER = "character"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of a text: code points [start, end), without white space around it, and what it ends at."""

    start: int
    end: int
    boundary: Boundary = Boundary.SENTENCE


def split_sentences(text: str, language: str) -> list[Segment]:
    """The sentences of `text`, in order; all that lies between them is white space. Blank text has none."""
    segments: list[Segment] = []
    for line in _LINE.finditer(text):
        for sentence in sentencex.get_sentence_boundaries(language, line.group()):
            offset = line.start()
            segments.extend(_trimmed(text, offset + sentence["start_index"], offset + sentence["end_index"]))
    return segments


def split_long(text: str, segment: Segment, fits: Callable[[str], bool]) -> list[Segment]:
    """`segment` itself if `fits` says so of its text, else pieces that each fit.

    Cuts in two at the clause boundary nearest the middle, else between words, else between characters, and goes on
    with the halves. A single character is never cut.
    """
    pieces: list[Segment] = []
    pending = [segment]
    while pending:
        piece = pending.pop()
        content = text[piece.start : piece.end]
        if len(content) <= 1 or fits(content):
            pieces.append(piece)
            continue
        cut, boundary = _best_cut(content)
        left = _trimmed(text, piece.start, piece.start + cut, boundary)
        right = _trimmed(text, piece.start + cut, piece.end, piece.boundary)
        pending.extend(reversed([*left, *right]))
    return pieces


def is_spaced(language: str) -> bool:
    """Whether `language` puts spaces between sentences."""
    return language.split("-")[0].lower() not in UNSPACED_LANGUAGES


def _trimmed(text: str, start: int, end: int, boundary: Boundary = Boundary.SENTENCE) -> Iterator[Segment]:
    content = text[start:end]
    stripped = content.strip()
    if stripped:
        start += len(content) - len(content.lstrip())
        yield Segment(start=start, end=start + len(stripped), boundary=boundary)


def _best_cut(content: str) -> tuple[int, Boundary]:
    """Where to cut `content` (at least two characters) in two, and the kind of place it is."""
    middle = len(content) / 2
    for pattern, boundary in ((_CLAUSE_END, Boundary.CLAUSE), (_SPACE, Boundary.WORD)):
        cuts = [match.end() for match in pattern.finditer(content) if 0 < match.end() < len(content)]
        # A clause of a few characters makes a poor piece: better a cut between words near the middle.
        central = [cut for cut in cuts if middle / 2 <= cut <= middle * 3 / 2]
        if central:
            return min(central, key=lambda cut: abs(cut - middle)), boundary
    spaces = [match.end() for match in _SPACE.finditer(content) if 0 < match.end() < len(content)]
    if spaces:
        return min(spaces, key=lambda cut: abs(cut - middle)), Boundary.WORD
    return _character_cut(content), Boundary.CHARACTER


def _character_cut(content: str) -> int:
    """The place nearest the middle, from there rightwards, that parts no mark or joiner from its base."""
    middle = len(content) // 2
    for cut in range(middle, len(content)):
        if not (_clings(content[cut]) or content[cut - 1] == "\u200d"):
            return cut
    return middle


def _clings(character: str) -> bool:
    return unicodedata.combining(character) > 0 or character == "\u200d" or "\ufe00" <= character <= "\ufe0f"
