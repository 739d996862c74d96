"""Results of the engine back to text: sentences joined with the white space of the content, spans, alignments."""

from __future__ import annotations

from collections.abc import Sequence

from service.engine import FinishReason, Hypothesis
from service.errors import EngineError
from service.segmentation import Boundary, is_spaced
from service.tokenizer import Tokenizer
from service.translator.catalogue import LanguagePair
from service.translator.decoding import JobResult
from service.translator.preparation import WORD_START, Piece, PreparedContent
from service.translator.translation import (
    Alignment,
    SentenceEnd,
    SentenceTranslation,
    Span,
    TextHypothesis,
    Token,
    Translation,
)

_ENDS = {FinishReason.EOS: SentenceEnd.EOS, FinishReason.LENGTH: SentenceEnd.LENGTH}


def gap_before(content: PreparedContent, index: int, pair: LanguagePair) -> str:
    """The white space in front of piece `index` of a translation; after the last piece with index = their number.

    It is that of the content; where sentences follow each other without any and the target language wants some, a
    space.
    """
    start = content.pieces[index - 1].segment.end if index else 0
    end = content.pieces[index].segment.start if index < len(content.pieces) else len(content.text)
    gap = content.text[start:end]
    if gap or index in (0, len(content.pieces)) or not is_spaced(pair.target):
        return gap
    inside_word = content.pieces[index - 1].segment.boundary is Boundary.CHARACTER and is_spaced(pair.source)
    return "" if inside_word else " "


def source_text(content: PreparedContent, piece: Piece) -> str:
    """The text of one piece of a content."""
    return content.text[piece.segment.start : piece.segment.end]


def assemble(
    content: PreparedContent, results: Sequence[JobResult | None], tokenizer: Tokenizer, pair: LanguagePair
) -> Translation:
    """The translation of one content from the result of each piece, None for those that are copied."""
    text = ""
    sentences: list[SentenceTranslation] = []
    for index, (piece, ended) in enumerate(zip(content.pieces, results, strict=True)):
        text += gap_before(content, index, pair)
        if ended is None:
            sentence_text = source_text(content, piece)
            sentences.append(_copied(piece, len(text), sentence_text))
        else:
            sentence_text = tokenizer.decode(ended.result.hypotheses[0].ids)
            sentences.append(_translated(piece, ended, len(text), sentence_text, tokenizer))
        text += sentence_text
    text += gap_before(content, len(content.pieces), pair)
    return Translation(text=text, sentences=tuple(sentences), hypotheses=_joined(content, sentences, pair))


def _copied(piece: Piece, start: int, text: str) -> SentenceTranslation:
    return SentenceTranslation(
        source_span=Span(piece.segment.start, piece.segment.end),
        target_span=Span(start, start + len(text)),
        end=SentenceEnd.COPIED,
        boundary=piece.segment.boundary,
    )


def _translated(piece: Piece, ended: JobResult, start: int, text: str, tokenizer: Tokenizer) -> SentenceTranslation:
    result = ended.result
    best = result.hypotheses[0]
    if best.finish_reason not in _ENDS:
        raise EngineError(f"a hypothesis ended by {best.finish_reason.value}: this is a bug")
    several = result.hypotheses if len(result.hypotheses) > 1 else ()
    return SentenceTranslation(
        source_span=Span(piece.segment.start, piece.segment.end),
        target_span=Span(start, start + len(text)),
        end=_ENDS[best.finish_reason],
        boundary=piece.segment.boundary,
        score=best.score,
        token_scores=best.token_scores or (),
        alignment=_alignment(piece, best, start, tokenizer),
        hypotheses=tuple(TextHypothesis(text=tokenizer.decode(one.ids), score=one.score) for one in several),
        unknown_character_count=piece.encoding.unknown_count,
        unknown_output_count=best.ids.count(tokenizer.unk_id),
        fallback=ended.fallback,
    )


def _joined(
    content: PreparedContent, sentences: Sequence[SentenceTranslation], pair: LanguagePair
) -> tuple[TextHypothesis, ...]:
    """Hypothesis i of the content: hypothesis i of each sentence, joined."""
    count = min(
        (len(sentence.hypotheses) for sentence in sentences if sentence.end is not SentenceEnd.COPIED), default=0
    )
    joined: list[TextHypothesis] = []
    for rank in range(count):
        text, score = "", 0.0
        for index, (piece, sentence) in enumerate(zip(content.pieces, sentences, strict=True)):
            text += gap_before(content, index, pair)
            if sentence.end is SentenceEnd.COPIED:
                text += source_text(content, piece)
            else:
                text += sentence.hypotheses[rank].text
                score += sentence.hypotheses[rank].score
        text += gap_before(content, len(content.pieces), pair)
        joined.append(TextHypothesis(text=text, score=score))
    return tuple(joined)


def _alignment(piece: Piece, hypothesis: Hypothesis, start: int, tokenizer: Tokenizer) -> Alignment | None:
    """Tokens with their spans in content and translation, and the attention between them."""
    weights = hypothesis.alignment
    if weights is None:
        return None
    encoding = piece.encoding
    source = tuple(
        Token(text=tokenizer.source_piece(index), span=Span(piece.segment.start + begin, piece.segment.start + end))
        for index, (begin, end) in zip(encoding.ids, encoding.spans, strict=True)
    )
    ids = hypothesis.ids if weights.shape[0] == len(hypothesis.ids) else (*hypothesis.ids, tokenizer.eos_id)
    if weights.shape != (len(ids), len(source)):
        raise EngineError(f"an alignment of shape {weights.shape} for {len(ids)} x {len(source)}: this is a bug")
    return Alignment(
        source_tokens=source,
        target_tokens=_target_tokens(ids, start, tokenizer),
        weights=tuple(weights.ravel().tolist()),
    )


def _target_tokens(ids: Sequence[int], start: int, tokenizer: Tokenizer) -> tuple[Token, ...]:
    """Each token stands for what the text gains by it, without the space in front of a word."""
    tokens: list[Token] = []
    end = 0
    for count, index in enumerate(ids, start=1):
        text = tokenizer.decode(ids[:count])
        begin = min(end, len(text))
        begin += len(text[begin:]) - len(text[begin:].lstrip())
        end = len(text)
        tokens.append(Token(text=tokenizer.target_piece(index), span=Span(start + begin, start + end)))
    return tuple(tokens)


def settled_text(ids: Sequence[int], firm: int, tokenizer: Tokenizer, pair: LanguagePair) -> str:
    """The text of a running hypothesis as far as nothing will change it; further tokens only add to it.

    Held back are the last word, which may not be finished (the last token in languages that write no spaces), and
    everything beyond the first `firm` tokens, which a second decoding may write otherwise.
    """
    settled = max(len(ids) - 1, 0)
    if is_spaced(pair.target):
        while settled > 0 and not tokenizer.target_piece(ids[settled]).startswith(WORD_START):
            settled -= 1
    return tokenizer.decode(ids[: min(settled, firm)])
