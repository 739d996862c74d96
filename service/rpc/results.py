"""What an answered call or bulk item adds to the metrics and to the call's log line."""

from __future__ import annotations

from service.metrics import Metrics, exemplar
from service.rpc.call import Call
from service.translator import Fallback, SentenceEnd, TranslationResult

BULK_METHOD = "TranslateBulk"
"""One call without end: its items are counted, not traced one by one."""


def record_result(metrics: Metrics, call: Call, result: TranslationResult) -> None:
    """Count tokens, time and everything that happened on the way, for each model that took part."""
    call.model = result.model_id
    call.source_tokens += result.timings.source_tokens
    call.target_tokens += result.timings.target_tokens
    for leg in result.legs:
        _record_leg(metrics, exemplar(call.trace_id), leg)
    if call.span is not None and call.method != BULK_METHOD:
        call.span.phases(result.timings)
    if result.pivot is not None:
        metrics.pivots.labels(result.model_id).inc()


def _record_leg(metrics: Metrics, trace: dict[str, str] | None, result: TranslationResult) -> None:
    model, timings = result.model_id, result.timings
    metrics.tokenize_seconds.labels(model).observe(timings.tokenize_seconds, trace)
    metrics.detokenize_seconds.labels(model).observe(timings.detokenize_seconds, trace)
    metrics.source_tokens.labels(model).inc(timings.source_tokens)
    metrics.target_tokens.labels(model).inc(timings.target_tokens)
    for lookup, count in (
        ("hit", timings.cached_sentences),
        ("coalesced", timings.coalesced_sentences),
        ("miss", timings.missed_sentences),
    ):
        metrics.cache_lookups.labels(model, lookup).inc(count)
    for translation in result.translations:
        truncated = sum(sentence.end is SentenceEnd.LENGTH for sentence in translation.sentences)
        metrics.truncations.labels(model).inc(truncated)
        metrics.unknown_characters.labels(model).inc(translation.unknown_character_count)
        for reason in Fallback:
            count = sum(sentence.fallback is reason for sentence in translation.sentences)
            metrics.fallbacks.labels(model, reason.value).inc(count)
        metrics.split_pieces.labels(model).inc(translation.split_piece_count)
