"""Through a third language: each sentence goes through two models, and the answer says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from service.errors import InvalidInputError, NotFoundError
from service.translator import (
    Fallback,
    LanguagePair,
    ModelCatalogue,
    SentenceEnd,
    ServedModel,
    TextDelta,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
    Translator,
    TranslatorLimits,
)
from tests.doubles.echo_model import EchoRunner, echo_model, tiny_tokenizer

LETTER = " \r\n  I love you. How are you?\n\n\tWe are fine;\r\n thank you.  "


def model(model_id: str, *pairs: tuple[str, str], version: str = "0123456789ab") -> ServedModel:
    """A model that says every sentence again, for these pairs."""
    served = echo_model(tiny_tokenizer(), model_id=model_id)
    return replace(served, version=version, pairs=tuple(LanguagePair(source=s, target=t) for s, t in pairs))


@pytest.fixture
def models() -> Iterator[list[ServedModel]]:
    """Chinese to English, and English to German and French."""
    served = [model("zh-en", ("zh", "en")), model("en-x", ("en", "de"), ("en", "fr"))]
    for each in served:
        each.engine.start()
    yield served
    for each in served:
        each.engine.shutdown(grace_seconds=1.0)


@pytest.fixture
def translator(models: list[ServedModel]) -> Translator:
    """A translator with these models."""
    return Translator(ModelCatalogue(models), TranslatorLimits(sentences_in_flight=8))


def request(*contents: str, source: str = "zh", target: str = "de", **options: Any) -> TranslationRequest:
    """A request for a pair that no model knows."""
    return TranslationRequest(
        contents=contents, source_language=source, target_language=target, options=TranslationOptions(**options)
    )


async def translate(translator: Translator, asked: TranslationRequest) -> TranslationResult:
    """The result, with a generous deadline."""
    return await translator.translate(asked, deadline=time.monotonic() + 30)


async def test_the_answer_names_the_language_between_and_both_models(translator: Translator) -> None:
    """And a direct one names neither."""
    result = await translate(translator, request("I love you."))
    assert result.pivot is not None
    assert result.pivot.language == "en"
    assert [leg.model_id for leg in result.legs] == ["zh-en", "en-x"]
    assert result.model_id == "en-x"
    assert result.timings.source_tokens == result.legs[0].timings.source_tokens > 0
    assert result.timings.steps == sum(leg.timings.steps for leg in result.legs)
    direct = await translate(translator, request("I love you.", target="en"))
    assert (direct.pivot, direct.legs) == (None, (direct,))


async def test_white_space_and_spans_are_those_of_the_callers_text(translator: Translator) -> None:
    """A letter keeps its lines, and each sentence is accounted for in both texts."""
    result = await translate(translator, request(LETTER, "", "😀", "I love you."))
    assert [translation.text for translation in result.translations] == [LETTER, "", "😀", "I love you."]
    sentences = result.translations[0].sentences
    assert [LETTER[s.source_span.start : s.source_span.end] for s in sentences] == [
        "I love you.", "How are you?", "We are fine;", "thank you.",
    ]  # fmt: skip
    assert all(sentence.source_span == sentence.target_span for sentence in sentences)
    assert result.translations[2].sentences[0].end is SentenceEnd.COPIED


async def test_nothing_that_happened_on_the_way_is_lost(translator: Translator, models: list[ServedModel]) -> None:
    """Unknown characters and truncation by the first model show in the joined answer."""
    unknown = (await translate(translator, request("I love 你们 you."))).translations[0]
    assert unknown.unknown_character_count >= 2
    short = (await translate(translator, request("I love you.", max_output_tokens=3))).translations[0]
    assert short.truncated


async def test_a_fallback_of_either_model_is_told(models: list[ServedModel]) -> None:
    """With its reason."""
    runner = EchoRunner(tiny_tokenizer())
    runner.rambles_until = 1000
    rambling = replace(echo_model(tiny_tokenizer(), runner=runner), pairs=models[0].pairs)
    rambling.engine.start()
    for route in ([rambling, models[1]], [models[0], replace(rambling, pairs=models[1].pairs)]):
        answer = await translate(Translator(ModelCatalogue(route), TranslatorLimits()), request("I love you."))
        assert answer.translations[0].sentences[0].fallback is Fallback.LENGTH
        assert answer.translations[0].truncated
    await asyncio.to_thread(rambling.engine.shutdown, grace_seconds=1.0)


async def test_hypotheses_are_those_of_the_second_model(translator: Translator) -> None:
    """They are joined over the sentences, best first, the first being the translation."""
    asked = request("I love you.\nHow are you? 😀", beam_size=4, num_hypotheses=3)
    translation = (await translate(translator, asked)).translations[0]
    assert len(translation.hypotheses) == 3
    assert translation.hypotheses[0].text == translation.text == "I love you.\nHow are you? 😀"
    scores = [hypothesis.score for hypothesis in translation.hypotheses]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(sum(sentence.score for sentence in translation.sentences))


@pytest.mark.parametrize("content", [LETTER, "", "  \n", "I love you.", "😀\n\nI love you. 😀", "I love 你们 you.  "])
@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"temperature": 3.0, "seed": 3}])
async def test_deltas_joined_equal_the_unary_answer(
    translator: Translator, content: str, options: dict[str, Any]
) -> None:
    """Sentence by sentence, and the end of the stream is the unary answer."""
    asked = request(content, **options)
    deltas: list[str] = []
    end: TranslationResult | None = None
    async for item in translator.stream(asked, deadline=time.monotonic() + 30):
        if isinstance(item, TextDelta):
            deltas.append(item.text)
        else:
            end = item
    assert end is not None
    assert end.pivot is not None
    assert all(deltas)
    assert "".join(deltas) == end.translations[0].text
    assert end.translations == (await translate(translator, asked)).translations


@pytest.mark.parametrize(
    "option", [{"return_alignments": True}, {"return_token_scores": True}, {"target_prefix": "We"}]
)
async def test_what_means_nothing_across_two_models_is_refused_by_name(
    translator: Translator, option: dict[str, Any]
) -> None:
    """Not dropped in silence."""
    with pytest.raises(InvalidInputError) as caught:
        await translate(translator, request("I love you.", **option))
    assert caught.value.field == f"options.{next(iter(option))}"


async def test_it_can_be_declined(translator: Translator, models: list[ServedModel]) -> None:
    """By the call, by naming a model, by the server's setting; a language is no third language to itself."""
    asked = request("I love you.")
    for declined in (replace(asked, allow_pivot=False), replace(asked, model="zh-en")):
        with pytest.raises(NotFoundError):
            await translate(translator, declined)
    with pytest.raises(NotFoundError):
        ModelCatalogue(models, pivoting=False).route(
            model_id="", version="", source="zh", target="de", allow_pivot=True
        )
    there_and_back = ModelCatalogue([model("a", ("en", "de")), model("b", ("de", "en"))])
    with pytest.raises(NotFoundError):
        there_and_back.route(model_id="", version="", source="en", target="en-GB", allow_pivot=True)


async def test_both_models_are_held_to_the_end(models: list[ServedModel]) -> None:
    """The second model is not unloaded while the first one works."""
    runner = EchoRunner(tiny_tokenizer())
    first = replace(echo_model(tiny_tokenizer(), runner=runner), pairs=models[0].pairs)
    translator = Translator(ModelCatalogue([first, models[1]]), TranslatorLimits())
    first.engine.start()
    runner.gate.clear()
    call = asyncio.create_task(translate(translator, request("I love you.")))
    while not first.engine.running:
        await asyncio.sleep(0.002)
    assert translator.catalogue.is_held(models[1])
    runner.gate.set()
    assert (await call).translations[0].text == "I love you."
    assert not translator.catalogue.is_held(models[1])
    await asyncio.to_thread(first.engine.shutdown, grace_seconds=1.0)
