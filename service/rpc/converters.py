"""Between the wire's messages and the translator's values; knows both, decides nothing."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from dragoman.v1 import translation_pb2 as pb
from service.engine import LengthPenaltyKind, StoppingRule
from service.engine.options import MAX_BEAM_SIZE
from service.errors import InvalidInputError
from service.translator import (
    Alignment,
    Boundary,
    CallTimings,
    Fallback,
    ModelCatalogue,
    SentenceEnd,
    SentenceTranslation,
    ServedModel,
    Span,
    TextHypothesis,
    Token,
    Translation,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
    TranslatorLimits,
)

_LENGTH_PENALTY_KINDS = {
    pb.LENGTH_PENALTY_KIND_UNSPECIFIED: LengthPenaltyKind.MARIAN,
    pb.LENGTH_PENALTY_KIND_MARIAN: LengthPenaltyKind.MARIAN,
    pb.LENGTH_PENALTY_KIND_GNMT: LengthPenaltyKind.GNMT,
}
_STOPPING_RULES = {
    pb.STOPPING_RULE_UNSPECIFIED: StoppingRule.REFERENCE,
    pb.STOPPING_RULE_REFERENCE: StoppingRule.REFERENCE,
    pb.STOPPING_RULE_MARIAN: StoppingRule.MARIAN,
}
_FINISH_REASONS = {
    SentenceEnd.EOS: pb.FINISH_REASON_EOS,
    SentenceEnd.LENGTH: pb.FINISH_REASON_LENGTH,
    SentenceEnd.COPIED: pb.FINISH_REASON_COPIED,
}
_BOUNDARIES = {
    Boundary.SENTENCE: pb.BOUNDARY_SENTENCE,
    Boundary.CLAUSE: pb.BOUNDARY_CLAUSE,
    Boundary.WORD: pb.BOUNDARY_WORD,
    Boundary.CHARACTER: pb.BOUNDARY_CHARACTER,
}
_FALLBACKS = {
    None: pb.FALLBACK_UNSPECIFIED,
    Fallback.REPETITION: pb.FALLBACK_REPETITION,
    Fallback.LENGTH: pb.FALLBACK_LENGTH,
}
_PRECISIONS = {"fp32": pb.PRECISION_FP32, "fp16": pb.PRECISION_FP16, "int8": pb.PRECISION_INT8}


def request_from_proto(message: pb.TranslateRequest) -> TranslationRequest:
    """A unary request. Raises InvalidInputError for an unknown enum value."""
    return TranslationRequest(
        contents=tuple(message.contents),
        source_language=message.source_language_code,
        target_language=message.target_language_code,
        model=message.model,
        model_version=message.model_version,
        allow_pivot=not message.disable_pivot,
        options=_options(message.options),
    )


def request_from_stream_proto(message: pb.TranslateStreamRequest) -> TranslationRequest:
    """A streaming request, which has one content."""
    return TranslationRequest(
        contents=(message.content,),
        source_language=message.source_language_code,
        target_language=message.target_language_code,
        model=message.model,
        model_version=message.model_version,
        allow_pivot=not message.disable_pivot,
        options=_options(message.options),
    )


def _options(message: pb.TranslationOptions) -> TranslationOptions:
    """The options, with our defaults where a field is not set."""
    is_set = message.HasField
    if message.length_penalty_kind not in _LENGTH_PENALTY_KINDS:
        raise InvalidInputError("no such kind of length penalty", field="options.length_penalty_kind")
    if message.stopping_rule not in _STOPPING_RULES:
        raise InvalidInputError("no such stopping rule", field="options.stopping_rule")
    return TranslationOptions(
        beam_size=message.beam_size if is_set("beam_size") else 1,
        num_hypotheses=message.num_hypotheses if is_set("num_hypotheses") else 1,
        length_penalty=message.length_penalty if is_set("length_penalty") else 1.0,
        length_penalty_kind=_LENGTH_PENALTY_KINDS[message.length_penalty_kind],
        stopping_rule=_STOPPING_RULES[message.stopping_rule],
        max_output_tokens=message.max_output_tokens if is_set("max_output_tokens") else None,
        no_repeat_ngram_size=message.no_repeat_ngram_size if is_set("no_repeat_ngram_size") else 0,
        temperature=message.temperature if is_set("temperature") else None,
        top_k=message.top_k if is_set("top_k") else None,
        top_p=message.top_p if is_set("top_p") else None,
        seed=message.seed if is_set("seed") else None,
        target_prefix=message.target_prefix,
        return_alignments=message.return_alignments,
        return_token_scores=message.return_token_scores,
    )


def response_to_proto(result: TranslationResult, *, request_id: str) -> pb.TranslateResponse:
    """The answer to a unary request."""
    return pb.TranslateResponse(
        translations=[_translation(translation) for translation in result.translations],
        model=result.model_id,
        model_version=result.model_version,
        timings=_timings(result.timings),
        request_id=request_id,
        pivot_language_codes=_pivot_languages(result),
        models=_used_models(result),
    )


def stream_end_to_proto(result: TranslationResult, *, request_id: str) -> pb.TranslateStreamResponse:
    """The last message of a stream."""
    end = pb.TranslateStreamEnd(
        translation=_translation(result.translations[0]),
        model=result.model_id,
        model_version=result.model_version,
        timings=_timings(result.timings),
        request_id=request_id,
        pivot_language_codes=_pivot_languages(result),
        models=_used_models(result),
    )
    return pb.TranslateStreamResponse(end=end)


def _pivot_languages(result: TranslationResult) -> list[str]:
    return [] if result.pivot is None else [result.pivot.language]


def _used_models(result: TranslationResult) -> list[pb.ModelReference]:
    return [pb.ModelReference(model=leg.model_id, model_version=leg.model_version) for leg in result.legs]


def models_to_proto(catalogue: ModelCatalogue, limits: TranslatorLimits) -> pb.ListModelsResponse:
    """All models, with what they can do."""
    return pb.ListModelsResponse(models=[_model(model, catalogue, limits) for model in catalogue.models])


def _model(model: ServedModel, catalogue: ModelCatalogue, limits: TranslatorLimits) -> pb.Model:
    pairs = [
        pb.LanguagePair(
            source_language_code=pair.source,
            target_language_code=pair.target,
            is_default=catalogue.is_default(model, pair),
        )
        for pair in model.pairs
    ]
    return pb.Model(
        id=model.id,
        version=model.version,
        language_pairs=pairs,
        precision=_PRECISIONS[model.precision],
        provider=model.provider,
        limits=pb.ModelLimits(
            max_source_tokens=model.max_source_tokens,
            trusted_source_tokens=model.trusted_source_tokens,
            max_target_tokens=model.max_target_tokens,
            max_beam_size=min(MAX_BEAM_SIZE, model.engine.model.row_slots),
            max_request_characters=limits.max_request_characters,
            max_content_count=limits.max_content_count,
        ),
        supports_alignments=model.supports_alignments,
        licence=model.licence,
        attribution=model.attribution,
    )


def _translation(translation: Translation) -> pb.Translation:
    return pb.Translation(
        text=translation.text,
        hypotheses=[_hypothesis(hypothesis) for hypothesis in translation.hypotheses],
        sentences=[_sentence(sentence) for sentence in translation.sentences],
        truncated=translation.truncated,
        unknown_character_count=translation.unknown_character_count,
        split_piece_count=translation.split_piece_count,
        fallback_count=translation.fallback_count,
    )


def _sentence(sentence: SentenceTranslation) -> pb.Sentence:
    return pb.Sentence(
        source_span=_span(sentence.source_span),
        target_span=_span(sentence.target_span),
        finish_reason=_FINISH_REASONS[sentence.end],
        score=sentence.score,
        token_scores=sentence.token_scores,
        alignment=None if sentence.alignment is None else _alignment(sentence.alignment),
        hypotheses=[_hypothesis(hypothesis) for hypothesis in sentence.hypotheses],
        boundary=_BOUNDARIES[sentence.boundary],
        unknown_character_count=sentence.unknown_character_count,
        unknown_output_count=sentence.unknown_output_count,
        fallback=_FALLBACKS[sentence.fallback],
    )


def _hypothesis(hypothesis: TextHypothesis) -> pb.Hypothesis:
    return pb.Hypothesis(text=hypothesis.text, score=hypothesis.score)


def _alignment(alignment: Alignment) -> pb.Alignment:
    return pb.Alignment(
        source_tokens=[_token(token) for token in alignment.source_tokens],
        target_tokens=[_token(token) for token in alignment.target_tokens],
        weights=alignment.weights,
    )


def _token(token: Token) -> pb.Token:
    return pb.Token(text=token.text, span=_span(token.span))


def _span(span: Span) -> pb.Span:
    return pb.Span(start=span.start, end=span.end)


def _timings(timings: CallTimings) -> pb.Timings:
    return pb.Timings(
        total=_duration(timings.total_seconds),
        queue=_duration(timings.queue_seconds),
        tokenize=_duration(timings.tokenize_seconds),
        encode=_duration(timings.encode_seconds),
        decode=_duration(timings.decode_seconds),
        detokenize=_duration(timings.detokenize_seconds),
        first_token=_duration(timings.first_token_seconds),
        step_count=timings.steps,
        source_token_count=timings.source_tokens,
        target_token_count=timings.target_tokens,
        cached_sentence_count=timings.cached_sentences,
        coalesced_sentence_count=timings.coalesced_sentences,
    )


def _duration(seconds: float) -> Duration:
    whole, nanos = divmod(round(1e9 * seconds), 10**9)
    return Duration(seconds=whole, nanos=nanos)
