"""The translator's values on the wire: why a sentence was decoded again."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from dragoman.v1 import translation_pb2 as pb
from service.metrics import Metrics
from service.rpc.call import Call
from service.rpc.converters import models_to_proto, response_to_proto, stream_end_to_proto
from service.rpc.results import record_result
from service.translator import (
    Boundary,
    CallTimings,
    Fallback,
    ModelCatalogue,
    SentenceEnd,
    SentenceTranslation,
    Span,
    Translation,
    TranslationResult,
    TranslatorLimits,
)
from tests.doubles.echo_model import EchoRunner, echo_model, tiny_tokenizer


def answer(*fallbacks: Fallback | None) -> TranslationResult:
    """One translation, a sentence for each of `fallbacks`; those with one were cut off."""
    sentences = tuple(
        SentenceTranslation(
            source_span=Span(index, index + 1),
            target_span=Span(index, index + 1),
            end=SentenceEnd.EOS if fallback is None else SentenceEnd.LENGTH,
            boundary=Boundary.SENTENCE,
            fallback=fallback,
        )
        for index, fallback in enumerate(fallbacks)
    )
    timings = CallTimings(total_seconds=0.0, tokenize_seconds=0.0, detokenize_seconds=0.0)
    translation = Translation(text="x" * len(fallbacks), sentences=sentences)
    return TranslationResult(translations=(translation,), model_id="echo", model_version="1", timings=timings)


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        (None, pb.FALLBACK_UNSPECIFIED),
        (Fallback.REPETITION, pb.FALLBACK_REPETITION),
        (Fallback.LENGTH, pb.FALLBACK_LENGTH),
    ],
)
def test_a_sentence_says_why_it_was_decoded_again(fallback: Fallback | None, expected: pb.Fallback.ValueType) -> None:
    """In unary answers and at the end of streams, and the translation counts it."""
    result = answer(None, fallback)
    for translation in (
        response_to_proto(result, request_id="r").translations[0],
        stream_end_to_proto(result, request_id="r").end.translation,
    ):
        assert [sentence.fallback for sentence in translation.sentences] == [pb.FALLBACK_UNSPECIFIED, expected]
        assert translation.fallback_count == (fallback is not None)
        assert translation.truncated == (fallback is not None)


def test_fallbacks_are_counted_by_reason() -> None:
    """Each of them is on the page from the first answer on, so that its rate is right."""
    registry = CollectorRegistry()
    metrics, call = Metrics(registry), Call(method="Translate", request_id="r")

    def counted() -> list[float | None]:
        labels = [{"model": "echo", "reason": reason} for reason in ("repetition", "length")]
        return [registry.get_sample_value("dragoman_fallbacks_total", each) for each in labels]

    record_result(metrics, call, answer(None))
    assert counted() == [0, 0]
    record_result(metrics, call, answer(Fallback.LENGTH, None, Fallback.REPETITION, Fallback.LENGTH))
    assert counted() == [1, 2]


@pytest.mark.parametrize(("row_slots", "expected"), [(4, 4), (32, 8)])
def test_a_model_offers_no_more_beams_than_it_has_rows(row_slots: int, expected: int) -> None:
    """What ListModels says is taken."""
    runner = EchoRunner(tiny_tokenizer(), row_slots=row_slots)
    catalogue = ModelCatalogue([echo_model(tiny_tokenizer(), runner=runner)])
    (model,) = models_to_proto(catalogue, TranslatorLimits()).models
    assert model.limits.max_beam_size == expected
