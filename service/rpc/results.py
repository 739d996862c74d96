"""What an answered call or bulk item adds to the metrics and to the call's log line."""

from __future__ import annotations

from service.metrics import Metrics, exemplar
from service.rpc.call import Call
from service.translator import SentenceEnd, TranslationResult


def record_result(metrics: Metrics, call: Call, result: TranslationResult) -> None:
    """Count tokens, time and everything that happened on the way."""
    model, timings = result.model_id, result.timings
    call.model = model
    call.source_tokens += timings.source_tokens
    call.target_tokens += timings.target_tokens
    trace = exemplar(call.trace_id)
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
        metrics.fallbacks.labels(model).inc(translation.fallback_count)
        metrics.split_pieces.labels(model).inc(translation.split_piece_count)
