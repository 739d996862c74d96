"""Turns the engine's events into text deltas, in the order of the text and never taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.errors import EngineError
from service.tokenizer import Tokenizer
from service.translator.assembly import gap_before, settled_text, source_text
from service.translator.catalogue import LanguagePair
from service.translator.preparation import PreparedContent


class DeltaBuilder:
    """The stream of one content: tell it of tokens and results of any piece, and take what text is final by then."""

    def __init__(self, content: PreparedContent, tokenizer: Tokenizer, pair: LanguagePair) -> None:
        self._content = content
        self._tokenizer = tokenizer
        self._pair = pair
        self._current = 0
        self._sent = ""  # what was sent of the current piece
        self._running: dict[int, tuple[tuple[int, ...], Callable[[Sequence[int]], int]]] = {}
        self._finished: dict[int, str] = {
            index: source_text(content, piece) for index, piece in enumerate(content.pieces) if piece.copied
        }
        self._gap = gap_before(content, 0, pair)

    def add_tokens(self, index: int, ids: tuple[int, ...], firm_length: Callable[[Sequence[int]], int]) -> None:
        """Piece `index` has these tokens so far, of which the first `firm_length` stay.

        It costs next to nothing until its turn comes: a document has many pieces that run at a time.
        """
        self._running[index] = ids, firm_length

    def add_result(self, index: int, ids: tuple[int, ...]) -> None:
        """Piece `index` has ended with these tokens."""
        self.add_text(index, self._tokenizer.decode(ids))

    def add_text(self, index: int, text: str) -> None:
        """Piece `index` has ended with this text."""
        self._finished[index] = text

    def take(self) -> str:
        """The text that has become final since the last call; empty when there is none."""
        delta = ""
        while self._current < len(self._content.pieces) and self._current in self._finished:
            delta += self._advance(self._finished.pop(self._current))
            self._running.pop(self._current, None)
            self._current += 1
            self._sent = ""
            self._gap = gap_before(self._content, self._current, self._pair)
        if self._current == len(self._content.pieces):
            delta, self._gap = delta + self._gap, ""
        elif self._current in self._running:
            ids, firm_length = self._running.pop(self._current)
            settled = settled_text(ids, firm_length(ids), self._tokenizer, self._pair)
            if len(settled) > len(self._sent):
                delta += self._advance(settled)
        return delta

    def _advance(self, text: str) -> str:
        """What `text`, the current piece so far, adds to what was sent."""
        if not text.startswith(self._sent):
            raise EngineError("streamed text would have to be taken back: this is a bug")
        delta = self._gap + text[len(self._sent) :]
        self._gap, self._sent = "", text
        return delta
