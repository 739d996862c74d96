"""The cache and the sharing of decodings in flight: answers as fresh ones, nobody bound to another's fate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.engine import (
    DecodingOptions,
    DecodingResult,
    EngineLimits,
    FinishReason,
    Hypothesis,
    Priority,
    Timings,
)
from service.errors import DeadlineError, EngineError, OverloadedError
from service.translator import (
    DecodingCache,
    ModelCatalogue,
    TextDelta,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
    Translator,
    TranslatorLimits,
)
from service.translator.cache import DecodingKey
from tests.doubles.echo_model import EchoRunner, echo_model, tiny_tokenizer
from tests.doubles.edge_server import until

TEXT = "I love you. How are you?"


@pytest.fixture
def runner() -> EchoRunner:
    """The runner behind `translator`."""
    return EchoRunner(tiny_tokenizer())


@pytest.fixture
def translator(runner: EchoRunner) -> Iterator[Translator]:
    """A translator with a cache, whose engine runs, with room for eight sentences in the queue."""
    model = echo_model(tiny_tokenizer(), runner=runner, limits=EngineLimits(max_waiting_sequences=8))
    model.engine.start()
    yield with_cache(translator_of(model, None))
    runner.gate.set()
    model.engine.shutdown(grace_seconds=0.5)


def translator_of(model: Any, cache: DecodingCache | None) -> Translator:
    """A translator of one model."""
    return Translator(ModelCatalogue([model]), TranslatorLimits(sentences_in_flight=8), cache=cache)


def with_cache(other: Translator, *, max_bytes: int = 2**20) -> Translator:
    """The same models with a cache of its own."""
    return Translator(other.catalogue, other.limits, cache=DecodingCache(max_bytes=max_bytes))


def request(*contents: str, target: str = "de", **options: Any) -> TranslationRequest:
    """A request from English."""
    return TranslationRequest(
        contents=contents, source_language="en", target_language=target, options=TranslationOptions(**options)
    )


async def translate(translator: Translator, asked: TranslationRequest, *, seconds: float = 30.0) -> TranslationResult:
    """The result, with a generous deadline."""
    return await translator.translate(asked, deadline=time.monotonic() + seconds)


def counts(result: TranslationResult) -> tuple[int, int, int]:
    """Sentences (from the cache, by another's decoding, by their own)."""
    timings = result.timings
    return timings.cached_sentences, timings.coalesced_sentences, timings.missed_sentences


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_alignments": True, "return_token_scores": True},
        {"beam_size": 4, "num_hypotheses": 3, "return_alignments": True, "return_token_scores": True},
        {"temperature": 5.0, "seed": 7, "return_token_scores": True},
        {"max_output_tokens": 3},
        {"target_prefix": "We"},
    ],
)
async def test_a_cached_answer_equals_a_fresh_one(translator: Translator, options: dict[str, Any]) -> None:
    """Field by field: text, spans, scores, token scores, hypotheses, alignments; and it says that it was cached."""
    asked = request(TEXT, **options)
    fresh = await translate(translator_of(translator.catalogue.models[0], None), asked)
    first, second = await translate(translator, asked), await translate(translator, asked)
    assert fresh.translations == first.translations == second.translations
    assert (counts(fresh), counts(first), counts(second)) == ((0, 0, 0), (0, 0, 2), (2, 0, 0))
    assert second.timings.decode_seconds == second.timings.queue_seconds == second.timings.steps == 0
    assert second.timings.target_tokens == first.timings.target_tokens


async def test_a_guarded_answer_is_cached_with_its_guard(translator: Translator, runner: EchoRunner) -> None:
    """The second decoding of a loop comes from the cache as the first does."""
    runner.looping = True
    asked = request("The quick brown fox jumps over the lazy dog.", return_token_scores=True)
    first, second = await translate(translator, asked), await translate(translator, asked)
    assert first.translations == second.translations
    assert second.translations[0].fallback_count == 1
    assert counts(second) == (1, 0, 0)


async def test_other_options_languages_and_models_are_other_keys(translator: Translator) -> None:
    """What may change the answer is part of the key."""
    await translate(translator, request(TEXT))
    for asked in (request(TEXT, beam_size=2), request(TEXT, target="fr"), request(TEXT, return_alignments=True)):
        assert counts(await translate(translator, asked)) == (0, 0, 2)
    model = translator.catalogue.models[0]
    translator.catalogue.publish([replace(model, version="another00000")])
    assert counts(await translate(translator, request(TEXT))) == (0, 0, 2)


async def test_sampling_without_a_seed_is_never_shared(translator: Translator) -> None:
    """Each draw is its own, in one call and in two."""
    asked = request(*[TEXT] * 4, temperature=5.0)
    results = [await translate(translator, asked) for _ in range(2)]
    assert [counts(result) for result in results] == [(0, 0, 0)] * 2
    assert len({translation.text for result in results for translation in result.translations}) > 1


async def test_a_model_that_depends_on_company_is_never_shared(translator: Translator) -> None:
    """As with CUDA's fast mode."""
    model = translator.catalogue.models[0]
    translator.catalogue.publish([replace(model, repeatable=False)])
    for _ in range(2):
        assert counts(await translate(translator, request(TEXT, TEXT))) == (0, 0, 0)


async def test_identical_sentences_in_flight_are_decoded_once(translator: Translator, runner: EchoRunner) -> None:
    """Of one call and of several; and the queue holds them once."""
    runner.gate.clear()
    calls = [asyncio.create_task(translate(translator, request("I love you.", "I love you."))) for _ in range(10)]
    engine = translator.catalogue.models[0].engine
    await until(lambda: engine.running + engine.waiting == 1)
    await asyncio.sleep(0)
    runner.gate.set()
    results = await asyncio.gather(*calls)
    assert {translation.text for result in results for translation in result.translations} == {"I love you."}
    assert [sum(column) for column in zip(*map(counts, results), strict=True)] == [0, 19, 1]


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_one_who_leaves_cancels_nobody_else(translator: Translator, runner: EchoRunner, leaver: int) -> None:
    """Whether it was the first to ask or a later one; the others get their answer."""
    runner.gate.clear()
    calls = [asyncio.create_task(translate(translator, request("I love you."))) for _ in range(3)]
    engine = translator.catalogue.models[0].engine
    await until(lambda: engine.running == 1)
    calls[leaver].cancel()
    with suppress(asyncio.CancelledError):
        await calls[leaver]
    runner.gate.set()
    for call in calls[:leaver] + calls[leaver + 1 :]:
        assert (await call).translations[0].text == "I love you."


async def test_when_all_have_left_the_decoding_goes_too(translator: Translator, runner: EchoRunner) -> None:
    """Nobody waits: its place in the queue is free at once, and the next one starts anew."""
    runner.gate.clear()
    blocker = asyncio.create_task(translate(translator, request("We are fine.", beam_size=8)))
    engine = translator.catalogue.models[0].engine
    await until(lambda: engine.running == 1)
    calls = [asyncio.create_task(translate(translator, request("I love you."))) for _ in range(3)]
    await until(lambda: engine.waiting == 1)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert engine.waiting == 0
    runner.gate.set()
    await blocker
    assert counts(await translate(translator, request("I love you."))) == (0, 0, 1)


async def test_a_shorter_deadline_ends_nobody_else(translator: Translator, runner: EchoRunner) -> None:
    """The first to ask runs out of time; who asked for the same with more time is decoded for."""
    runner.gate.clear()
    hasty = asyncio.create_task(translate(translator, request("I love you."), seconds=0.05))
    engine = translator.catalogue.models[0].engine
    await until(lambda: engine.running == 1)
    patient = asyncio.create_task(translate(translator, request("I love you.")))
    with pytest.raises(DeadlineError):
        await hasty
    runner.gate.set()
    assert (await patient).translations[0].text == "I love you."


async def test_an_interactive_call_waits_for_no_bulk_decoding(translator: Translator, runner: EchoRunner) -> None:
    """It gets one of its own class; bulk may share an interactive one."""
    runner.gate.clear()
    asked = request("I love you.")
    bulk = asyncio.create_task(translator.translate(asked, priority=Priority.BULK, deadline=None))
    engine = translator.catalogue.models[0].engine
    await until(lambda: engine.running + engine.waiting == 1)
    interactive = asyncio.create_task(translate(translator, asked))
    await until(lambda: engine.running + engine.waiting == 2)
    another = asyncio.create_task(translator.translate(asked, priority=Priority.BULK, deadline=None))
    await asyncio.sleep(0)
    runner.gate.set()
    results = [await bulk, await interactive, await another]
    assert [counts(result) for result in results] == [(0, 0, 1), (0, 0, 1), (0, 1, 0)]


async def test_failures_are_shared_and_not_kept(translator: Translator, runner: EchoRunner) -> None:
    """All who wait for a failed step hear of it; the next one is decoded anew."""
    runner.failing = True
    calls = [translate(translator, request("I love you.")) for _ in range(3)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EngineError] * 3
    runner.failing = False
    assert counts(await translate(translator, request("I love you."))) == (0, 0, 1)


async def test_a_refused_sentence_leaves_nothing_behind(translator: Translator, runner: EchoRunner) -> None:
    """A full queue refuses what is new; what is known or in flight is still answered."""
    known = request("Pack my box.")
    await translate(translator, known)
    runner.gate.clear()
    running = asyncio.create_task(translate(translator, request("We are fine.")))
    engine = translator.catalogue.models[0].engine
    await until(lambda: engine.running == 1)
    texts = [f"I love you {number}." for number in range(8)]
    waiting = asyncio.create_task(translate(translator, request(*texts)))
    await until(lambda: engine.waiting == 8)
    for _ in range(2):
        with pytest.raises(OverloadedError):
            await translate(translator, request("How are you?"))
    assert counts(await translate(translator, known)) == (1, 0, 0)
    same = asyncio.create_task(translate(translator, request(texts[0])))
    await asyncio.sleep(0)
    runner.gate.set()
    assert counts(await same) == (0, 1, 0)
    await asyncio.gather(running, waiting)


async def test_streams_share_too(translator: Translator, runner: EchoRunner) -> None:
    """From the cache at once; in flight with the tokens as they come, where the other streams as well."""

    async def collect(asked: TranslationRequest) -> tuple[list[str], TranslationResult]:
        deltas: list[str] = []
        async for item in translator.stream(asked, deadline=time.monotonic() + 30):
            if not isinstance(item, TextDelta):
                return deltas, item
            deltas.append(item.text)
        raise AssertionError("no result")

    asked = request("The quick brown fox jumps.")
    runner.gate.clear()
    engine = translator.catalogue.models[0].engine
    unary = asyncio.create_task(translate(translator, asked))
    await until(lambda: engine.running + engine.waiting == 1)
    streams = [asyncio.create_task(collect(asked)) for _ in range(2)]
    await until(lambda: engine.running + engine.waiting == 2)
    runner.gate.set()
    found = [await stream for stream in streams]
    assert sorted(counts(result) for _, result in found) == [(0, 0, 1), (0, 1, 0)]
    expected = (await unary).translations
    for deltas, result in found:
        assert result.translations == expected
        assert len(deltas) > 2
        assert "".join(deltas) == expected[0].text
    deltas, result = await collect(asked)
    assert (deltas, counts(result)) == ([expected[0].text], (1, 0, 0))


def result_of(length: int, *, alignment: bool = False) -> DecodingResult:
    """A result with one hypothesis."""
    weights = np.ones((1000, 1000), np.float32)[:length, :8] if alignment else None
    hypothesis = Hypothesis(
        ids=tuple(range(length)), score=0.0, log_prob=0.0, finish_reason=FinishReason.EOS, alignment=weights
    )
    timings = Timings(queue_seconds=1.0, encode_seconds=1.0, decode_seconds=1.0, first_token_seconds=1.0, steps=9)
    return DecodingResult(hypotheses=(hypothesis,), timings=timings)


def key_of(number: int) -> DecodingKey:
    """A key among many."""
    return DecodingKey(("m", "1"), DecodingOptions(), (number,))


def test_the_cache_is_bounded_and_forgets_what_was_not_used_longest() -> None:
    """Bytes stay below the bound whatever is put in; what was read stays."""
    cache = DecodingCache(max_bytes=100_000)
    for number in range(1000):
        cache.put(key_of(number), result_of(20))
        assert cache.get(key_of(0)) is not None
        assert 0 < cache.used_bytes <= 100_000
    assert cache.get(key_of(1)) is None
    assert cache.get(key_of(999)) is not None


def test_an_answer_larger_than_the_cache_is_not_kept() -> None:
    """It is no error, and throws nothing out."""
    cache = DecodingCache(max_bytes=10_000)
    cache.put(key_of(1), result_of(10))
    cache.put(key_of(2), result_of(10_000))
    assert (cache.get(key_of(2)), cache.get(key_of(1)) is not None) == (None, True)


def test_an_alignment_does_not_keep_the_array_it_was_cut_from() -> None:
    """Or the bound on bytes would not hold."""
    cache = DecodingCache(max_bytes=100_000)
    cache.put(key_of(1), result_of(4, alignment=True))
    found = cache.get(key_of(1))
    assert found is not None
    assert found.hypotheses[0].alignment is not None
    assert found.hypotheses[0].alignment.base is None
    assert found.hypotheses[0].alignment.tolist() == [[1.0] * 8] * 4
