"""Translation through a third language, sentence by sentence: what is asked of each model, and their answers joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from service.errors import InvalidInputError
from service.translator.assembly import gap_before, source_text
from service.translator.catalogue import LanguagePair, Route
from service.translator.preparation import PreparedContent
from service.translator.translation import (
    CallTimings,
    Pivot,
    SentenceEnd,
    SentenceTranslation,
    Span,
    TextHypothesis,
    Translation,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
)


def first_request(request: TranslationRequest) -> TranslationRequest:
    """What the first model is asked: one hypothesis of each sentence.

    Raises: InvalidInputError for options that mean nothing across two models.
    """
    _check_options(request.options)
    return replace(request, options=replace(request.options, num_hypotheses=1))


def second_request(request: TranslationRequest, first: TranslationResult) -> TranslationRequest:
    """What the second model is asked: every sentence that the first translated is a content of its own."""
    contents = tuple(
        translation.text[sentence.target_span.start : sentence.target_span.end]
        for translation in first.translations
        for sentence in translation.sentences
        if sentence.end is not SentenceEnd.COPIED
    )
    return replace(request, contents=contents)


def outer_pair(route: Route) -> LanguagePair:
    """The language read first and the one written last."""
    return LanguagePair(source=route.legs[0].pair.source, target=route.legs[-1].pair.target)


def join_legs(
    contents: Sequence[PreparedContent], first: TranslationResult, second: TranslationResult, route: Route
) -> TranslationResult:
    """One answer, whose spans are those of the caller's contents and of the final text."""
    pair = outer_pair(route)
    translated = iter(second.translations)
    return TranslationResult(
        translations=tuple(
            _joined(content, translation.sentences, translated, pair)
            for content, translation in zip(contents, first.translations, strict=True)
        ),
        model_id=second.model_id,
        model_version=second.model_version,
        timings=_added(first.timings, second.timings),
        pivot=Pivot(language=route.legs[0].pair.target, first=first, second=second),
    )


def _joined(
    content: PreparedContent,
    sentences: Sequence[SentenceTranslation],
    translated: Iterator[Translation],
    pair: LanguagePair,
) -> Translation:
    """The translation of one content; takes one of `translated` for each sentence that was not copied."""
    text = ""
    joined: list[SentenceTranslation] = []
    for index, sentence in enumerate(sentences):
        text += gap_before(content, index, pair)
        start = len(text)
        if sentence.end is SentenceEnd.COPIED:
            text += source_text(content, content.pieces[index])
            joined.append(replace(sentence, target_span=Span(start, len(text))))
        else:
            translation = next(translated)
            text += translation.text
            joined.append(_sentence(sentence, translation, Span(start, len(text))))
    text += gap_before(content, len(content.pieces), pair)
    count = min((len(each.hypotheses) for each in joined if each.hypotheses), default=0)
    hypotheses = tuple(_hypothesis(text, joined, rank) for rank in range(count))
    return Translation(text=text, sentences=tuple(joined), hypotheses=hypotheses)


def _sentence(first: SentenceTranslation, second: Translation, target_span: Span) -> SentenceTranslation:
    """A sentence by both models; it may have become several between them."""
    ends = (first.end, *(each.end for each in second.sentences))
    return SentenceTranslation(
        source_span=first.source_span,
        target_span=target_span,
        end=SentenceEnd.LENGTH if SentenceEnd.LENGTH in ends else SentenceEnd.EOS,
        boundary=first.boundary,
        score=first.score + sum(each.score for each in second.sentences),
        hypotheses=tuple(replace(each, score=first.score + each.score) for each in second.hypotheses),
        unknown_character_count=first.unknown_character_count + second.unknown_character_count,
        unknown_output_count=sum(each.unknown_output_count for each in second.sentences),
        fallback=next((each.fallback for each in (first, *second.sentences) if each.fallback is not None), None),
    )


def _hypothesis(text: str, sentences: Sequence[SentenceTranslation], rank: int) -> TextHypothesis:
    """`text` with hypothesis `rank` of each sentence that has several in its place."""
    parts: list[str] = []
    score, end = 0.0, 0
    for sentence in sentences:
        parts.append(text[end : sentence.target_span.start])
        end = sentence.target_span.end
        if sentence.hypotheses:
            parts.append(sentence.hypotheses[rank].text)
            score += sentence.hypotheses[rank].score
        else:
            parts.append(text[sentence.target_span.start : end])
    return TextHypothesis(text="".join([*parts, text[end:]]), score=score)


def _added(first: CallTimings, second: CallTimings) -> CallTimings:
    """One model works after the other; tokens are those read by the first and those written by the second."""
    return CallTimings(
        total_seconds=first.total_seconds + second.total_seconds,
        tokenize_seconds=first.tokenize_seconds + second.tokenize_seconds,
        detokenize_seconds=first.detokenize_seconds + second.detokenize_seconds,
        queue_seconds=first.queue_seconds + second.queue_seconds,
        encode_seconds=first.encode_seconds + second.encode_seconds,
        decode_seconds=first.decode_seconds + second.decode_seconds,
        first_token_seconds=first.total_seconds + second.first_token_seconds,
        steps=first.steps + second.steps,
        source_tokens=first.source_tokens,
        target_tokens=second.target_tokens,
        cached_sentences=first.cached_sentences + second.cached_sentences,
        coalesced_sentences=first.coalesced_sentences + second.coalesced_sentences,
        missed_sentences=first.missed_sentences + second.missed_sentences,
    )


def _check_options(options: TranslationOptions) -> None:
    refused = {
        "return_alignments": options.return_alignments,
        "return_token_scores": options.return_token_scores,
        "target_prefix": bool(options.target_prefix),
    }
    for name, is_set in refused.items():
        if is_set:
            message = "not available here: no model translates this pair directly, and a third language is between"
            raise InvalidInputError(message, field=f"options.{name}")
