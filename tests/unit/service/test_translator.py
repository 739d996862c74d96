"""The translator over the real engine, with a model that says every sentence again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.engine import Engine, EngineLimits
from service.errors import (
    DeadlineError,
    DragomanError,
    EngineError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
)
from service.segmentation import Boundary, Segment
from service.translator import (
    Fallback,
    ModelCatalogue,
    SentenceEnd,
    TextDelta,
    Translation,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
    Translator,
    TranslatorLimits,
)
from service.translator.assembly import assemble
from service.translator.preparation import Piece, PreparedContent
from tests.doubles.echo_model import EchoRunner, echo_model, tiny_tokenizer

LETTER = " \r\n  I love you. How are you?\n\n\tWe are fine;\r\n thank you.  "


@pytest.fixture
def runner() -> EchoRunner:
    """The runner behind `translator`."""
    return EchoRunner(tiny_tokenizer())


@pytest.fixture
def translator(runner: EchoRunner) -> Iterator[Translator]:
    """A translator whose engine runs, with room for eight sentences in the queue."""
    model = echo_model(tiny_tokenizer(), runner=runner, limits=EngineLimits(max_waiting_sequences=8))
    model.engine.start()
    yield Translator(ModelCatalogue([model]), TranslatorLimits(max_request_characters=10_000, sentences_in_flight=8))
    runner.gate.set()
    model.engine.shutdown(grace_seconds=0.5)


def request(*contents: str, target: str = "de", model: str = "", **options: Any) -> TranslationRequest:
    """A request from English."""
    return TranslationRequest(
        contents=contents,
        source_language="en",
        target_language=target,
        model=model,
        options=TranslationOptions(**options),
    )


async def translate(translator: Translator, asked: TranslationRequest, *, seconds: float = 30.0) -> TranslationResult:
    """The result, with a generous deadline."""
    return await translator.translate(asked, deadline=time.monotonic() + seconds)


async def translate_one(translator: Translator, content: str, **options: Any) -> Translation:
    """The translation of a single content."""
    return (await translate(translator, request(content, **options))).translations[0]


def engine_of(translator: Translator) -> Engine:
    """The engine of the only model."""
    return translator.catalogue.models[0].engine


async def until(holds: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails the test when it never does."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.002)


async def until_idle(translator: Translator) -> None:
    """Returns when the engine holds nothing any more."""
    await until(lambda: engine_of(translator).waiting == engine_of(translator).running == 0)


async def test_white_space_and_blank_lines_come_back(translator: Translator) -> None:
    """A letter keeps its lines; each sentence is accounted for by the spans of both texts."""
    translation = await translate_one(translator, LETTER)
    assert translation.text == LETTER
    assert [LETTER[s.source_span.start : s.source_span.end] for s in translation.sentences] == [
        "I love you.", "How are you?", "We are fine;", "thank you.",
    ]  # fmt: skip
    for sentence in translation.sentences:
        assert sentence.source_span == sentence.target_span
        assert (sentence.end, sentence.boundary) == (SentenceEnd.EOS, Boundary.SENTENCE)


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\u3000\t"])
async def test_blank_text_is_answered_with_itself(translator: Translator, blank: str) -> None:
    """There is no sentence in it, and the engine is not asked."""
    assert await translate_one(translator, blank) == Translation(text=blank)


async def test_contents_are_answered_in_order(translator: Translator) -> None:
    """One translation per content, blank ones in their places."""
    result = await translate(translator, request("I love you.", "", "How are you?"))
    assert [translation.text for translation in result.translations] == ["I love you.", "", "How are you?"]
    assert (result.model_id, result.model_version) == ("echo", "0123456789ab")
    assert result.timings.source_tokens > result.timings.target_tokens > 0


@pytest.mark.parametrize("text", ["\x00\x01", "😀😀", "مرحبا", "\u200b", "\ufeff\u202e"])
async def test_text_without_anything_readable_is_copied(translator: Translator, text: str) -> None:
    """Emoji, control characters and unknown scripts come back as they were, and the response says so."""
    translation = await translate_one(translator, f"I love you. \n{text}")
    assert translation.text == f"I love you. \n{text}"
    assert translation.sentences[1].end is SentenceEnd.COPIED


async def test_unknown_characters_are_counted(translator: Translator) -> None:
    """Characters that the vocabulary lacks are a number in the response."""
    translation = await translate_one(translator, "I love 你们 😀 you.")
    assert translation.unknown_character_count == 3
    assert translation.sentences[0].unknown_output_count >= 2


async def test_a_long_sentence_is_cut_and_the_response_says_so(translator: Translator) -> None:
    """Nothing of it is lost, and each piece is listed with the place it was cut at."""
    text = "The quick brown fox jumps, " * 12 + "and that is all."
    translation = await translate_one(translator, text)
    assert translation.text == text
    assert translation.split_piece_count == len(translation.sentences) > 1
    assert {s.boundary for s in translation.sentences[:-1]} <= {Boundary.CLAUSE, Boundary.WORD}
    assert translation.sentences[-1].boundary is Boundary.SENTENCE


async def test_truncation_is_told(translator: Translator) -> None:
    """A sentence stopped by the limit says so, and so does the translation."""
    translation = await translate_one(translator, "I love you.", max_output_tokens=3)
    assert translation.truncated
    assert translation.sentences[0].end is SentenceEnd.LENGTH


async def test_alignments_give_tokens_with_spans_of_both_texts(translator: Translator) -> None:
    """Joining the spans of the tokens gives both texts back, and each row of weights sums to 1."""
    text = "\n I love you."
    translation = await translate_one(translator, text, return_alignments=True, return_token_scores=True)
    sentence = translation.sentences[0]
    alignment = sentence.alignment
    assert alignment is not None
    for tokens, whole in ((alignment.source_tokens, text), (alignment.target_tokens, translation.text)):
        words = "".join(whole[token.span.start : token.span.end] for token in tokens)
        assert words.replace(" ", "") == "Iloveyou."
    assert alignment.source_tokens[0].text == ">>de<<"
    assert alignment.source_tokens[-1].text == alignment.target_tokens[-1].text == "</s>"
    width = len(alignment.source_tokens)
    rows = [alignment.weights[start : start + width] for start in range(0, len(alignment.weights), width)]
    assert len(rows) == len(alignment.target_tokens) == len(sentence.token_scores)
    assert [sum(row) for row in rows] == pytest.approx([1.0] * len(rows))


async def test_hypotheses_of_a_text_join_those_of_its_sentences(translator: Translator) -> None:
    """The first is the translation; scores fall."""
    translation = await translate_one(translator, "I love you.\nHow are you?", beam_size=4, num_hypotheses=3)
    assert len(translation.hypotheses) == 3
    assert translation.hypotheses[0].text == translation.text == "I love you.\nHow are you?"
    scores = [hypothesis.score for hypothesis in translation.hypotheses]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("target", "expected"), [("de", "I love you! How are you?"), ("zh", "I love you!How are you?")]
)
async def test_sentences_that_touch_are_parted_where_the_target_writes_spaces(
    translator: Translator, target: str, expected: str
) -> None:
    """As after a Chinese full stop: German wants a space between the sentences, Chinese none."""
    model = translator.catalogue.models[0]
    pair = next(pair for pair in model.pairs if pair.target == target)
    text = "I love you!How are you?"
    pieces = tuple(
        Piece(segment=Segment(start=start, end=end), encoding=model.tokenizer.encode(text[start:end]), copied=True)
        for start, end in ((0, 11), (11, 23))
    )
    content = PreparedContent(text=text, pieces=pieces)
    assert assemble(content, [None, None], model.tokenizer, pair).text == expected


async def test_sampling_is_repeatable_with_a_seed(translator: Translator) -> None:
    """The same seed gives the same text."""
    first = await translate_one(translator, LETTER, temperature=5.0, seed=7)
    assert first == await translate_one(translator, LETTER, temperature=5.0, seed=7)
    assert first.text != (await translate_one(translator, LETTER, temperature=5.0, seed=8)).text


async def test_a_target_prefix_begins_every_content(translator: Translator) -> None:
    """The first sentence of each content begins with it."""
    result = await translate(translator, request("I love you.", "How are you?", target_prefix="We"))
    assert all(translation.text.startswith("We") for translation in result.translations)


async def test_a_target_prefix_goes_behind_what_is_copied(translator: Translator) -> None:
    """It begins the first sentence that is translated, and no other."""
    translation = await translate_one(translator, "😀\nI love you. How are you?", target_prefix="We")
    assert [sentence.end for sentence in translation.sentences] == [
        SentenceEnd.COPIED,
        SentenceEnd.EOS,
        SentenceEnd.EOS,
    ]
    assert translation.text.startswith("😀\nWe")
    assert translation.text.endswith("How are you?")


@pytest.mark.parametrize("streamed", [False, True])
async def test_alignments_beyond_what_an_answer_holds_are_refused(
    translator: Translator, runner: EchoRunner, streamed: bool
) -> None:
    """As soon as there are so many, before memory is full of them; the rest of the text is not decoded."""
    translator.limits = TranslatorLimits(sentences_in_flight=2, max_alignment_weights=1_000)
    asked = request("I love you. " * 200, return_alignments=True)

    async def answer() -> None:
        if not streamed:
            await translate(translator, asked)
            return
        async for _ in translator.stream(asked, deadline=time.monotonic() + 30):
            pass

    with pytest.raises(InvalidInputError) as caught:
        await answer()
    assert caught.value.field == "options.return_alignments"
    await until_idle(translator)
    assert runner.steps < 400
    assert (await translate_one(translator, "I love you.", return_alignments=True)).sentences[0].alignment is not None


async def test_a_long_text_fits_a_queue_of_few_tokens(runner: EchoRunner) -> None:
    """A call puts no more in at a time than its part of the queue, one sentence at least."""
    model = echo_model(tiny_tokenizer(), runner=runner, limits=EngineLimits(max_waiting_tokens=100))
    model.engine.start()
    translator = Translator(ModelCatalogue([model]), TranslatorLimits(sentences_in_flight=64, tokens_in_flight=25))
    try:
        assert (await translate_one(translator, "I love you. " * 100)).text == "I love you. " * 100
        runner.gate.clear()
        running = asyncio.create_task(translate_one(translator, "How are you? " * 30))
        await until(lambda: engine_of(translator).waiting + engine_of(translator).running > 0)
        tokens = len(tiny_tokenizer().encode("How are you?", ">>de<<").ids)
        assert engine_of(translator).waiting + engine_of(translator).running <= 25 // tokens + 1
        runner.gate.set()
        assert (await running).text == "How are you? " * 30
    finally:
        runner.gate.set()
        model.engine.shutdown(grace_seconds=0.5)


@pytest.mark.parametrize(
    ("asked", "error", "field"),
    [
        (request(), InvalidInputError, "contents"),
        (request("x" * 10_001), InvalidInputError, "contents"),
        (request(*["x"] * 1025), InvalidInputError, "contents"),
        (request("x", target=""), InvalidInputError, "target_language_code"),
        (request("x", target="not a code"), InvalidInputError, "target_language_code"),
        (request("x", target="sw"), NotFoundError, None),
        (request("x", model="nobody"), NotFoundError, None),
        (request("", beam_size=0), InvalidInputError, "options.beam_size"),
        (request("x", beam_size=9), InvalidInputError, "options.beam_size"),
        (request("x", num_hypotheses=2), InvalidInputError, "options.num_hypotheses"),
        (request("x", seed=1), InvalidInputError, "options.seed"),
        (request("x", seed=-1, top_k=3), InvalidInputError, "options.seed"),
        (request("x", temperature=float("nan")), InvalidInputError, "options.temperature"),
        (request("", max_output_tokens=65), InvalidInputError, "options.max_output_tokens"),
    ],
)
async def test_bad_requests_are_refused_by_name(
    translator: Translator, asked: TranslationRequest, error: type[DragomanError], field: str | None
) -> None:
    """Each kind of bad request has its error, and an invalid field is named."""
    with pytest.raises(error) as caught:
        await translate(translator, asked)
    assert getattr(caught.value, "field", None) == field


@pytest.mark.parametrize("code", ["de", "DE", "de-AT", "de_DE", "deu"])
async def test_language_codes_are_normalised(translator: Translator, code: str) -> None:
    """Case, region, underscores and the model's aliases are understood."""
    assert await translate(translator, request("I love you.", target=code))


async def test_a_document_longer_than_the_queue_is_translated(translator: Translator) -> None:
    """Sentences beyond the window follow as others finish."""
    text = "I love you. How are you?\n" * 50
    assert (await translate_one(translator, text)).text == text


async def test_a_full_queue_refuses_at_once(translator: Translator, runner: EchoRunner) -> None:
    """The call that does not fit is refused, leaves nothing behind, and those accepted are still answered."""
    runner.gate.clear()
    first = asyncio.create_task(translate_one(translator, "We are fine."))
    await until(lambda: engine_of(translator).running == 1)
    second = asyncio.create_task(translate_one(translator, "I love you.\n" * 8))
    await until(lambda: engine_of(translator).waiting == 8)
    with pytest.raises(OverloadedError):
        await translate_one(translator, "How are you?")
    runner.gate.set()
    assert (await first).text == "We are fine."
    assert (await second).text == "I love you.\n" * 8
    await until_idle(translator)


async def test_a_cancelled_call_leaves_and_its_batch_mates_are_answered(
    translator: Translator, runner: EchoRunner
) -> None:
    """A cancelled member does not strand the others of its batch, and its own sentences leave the engine."""
    runner.gate.clear()
    cancelled = asyncio.create_task(translate_one(translator, "I love you.\nHow are you?"))
    kept = asyncio.create_task(translate_one(translator, "We are fine."))
    await until(lambda: engine_of(translator).running + engine_of(translator).waiting == 3)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    runner.gate.set()
    assert (await kept).text == "We are fine."
    await until_idle(translator)


async def test_a_deadline_ends_the_call_and_frees_its_slots(translator: Translator, runner: EchoRunner) -> None:
    """A call whose time is up ends with DeadlineError although the runner hangs; its sentences leave."""
    runner.gate.clear()
    with pytest.raises(DeadlineError):
        await translate(translator, request("I love you."), seconds=0.05)
    runner.gate.set()
    await until_idle(translator)


async def test_a_failed_step_is_an_engine_error_without_details(translator: Translator, runner: EchoRunner) -> None:
    """What went wrong inside stays inside."""
    runner.failing = True
    with pytest.raises(EngineError) as caught:
        await translate_one(translator, "I love you.")
    assert "secret" not in str(caught.value)


LOOPED = "The quick brown fox jumps over the lazy dog."
SHORT = "We are fine."


@pytest.mark.parametrize("options", [{}, {"beam_size": 2}, {"return_alignments": True, "return_token_scores": True}])
async def test_a_loop_is_decoded_again_with_a_guard_and_told(
    translator: Translator, runner: EchoRunner, options: dict[str, Any]
) -> None:
    """The answer keeps what came before the first repetition, ends, and says that a guard was needed."""
    runner.looping = True
    result = await translate(translator, request(f"I love you. {LOOPED}", "How are you?", **options))
    translation = result.translations[0]
    assert (translation.fallback_count, translation.truncated) == (1, False)
    looped = translation.sentences[1]
    assert looped.fallback is Fallback.REPETITION
    assert looped.end is SentenceEnd.EOS
    assert translation.sentences[0].fallback is None
    assert len(translation.text) < 3 * len(LOOPED)
    if looped.alignment is not None:
        assert len(looped.token_scores) == len(looped.alignment.target_tokens)


@pytest.mark.parametrize("options", [{}, {"beam_size": 2}, {"temperature": 0.01, "seed": 1}])
async def test_a_streamed_loop_equals_the_unary_answer(
    translator: Translator, runner: EchoRunner, options: dict[str, Any]
) -> None:
    """Nothing that might be taken back was sent."""
    runner.looping = True
    asked = request(f"I love you.\n{LOOPED} How are you?", **options)
    deltas, result = await collect(translator, asked)
    assert result.translations[0].fallback_count == 1
    assert "".join(deltas) == result.translations[0].text
    assert result.translations == (await translate(translator, asked)).translations


def rambling(runner: EchoRunner, sentence: str, *, log_prob: float) -> int:
    """Makes the runner ramble for three times the tokens of `sentence` and 18 more; the tokens of `sentence`."""
    tokens = len(tiny_tokenizer().encode(sentence, ">>de<<").ids)
    runner.rambles_until, runner.ramble_log_prob = 3 * tokens + 18, log_prob
    return tokens


@pytest.mark.parametrize(
    "options", [{}, {"beam_size": 2}, {"beam_size": 3, "num_hypotheses": 2}, {"temperature": 0.01, "seed": 1}]
)
@pytest.mark.parametrize("max_output_tokens", [None, 60])
async def test_an_output_without_an_end_is_decoded_again_with_a_limit_and_told(
    translator: Translator, runner: EchoRunner, options: dict[str, Any], max_output_tokens: int | None
) -> None:
    """The answer begins as the first one did, is cut off where it is clearly too long, and says both."""
    tokens = rambling(runner, SHORT, log_prob=-3.0)
    asked = request(SHORT, return_token_scores=True, max_output_tokens=max_output_tokens, **options)
    translation = (await translate(translator, asked)).translations[0]
    sentence = translation.sentences[0]
    assert (sentence.fallback, sentence.end) == (Fallback.LENGTH, SentenceEnd.LENGTH)
    assert (translation.fallback_count, translation.truncated) == (1, True)
    assert len(sentence.token_scores) == 2 * tokens + 16
    assert len(translation.hypotheses) == (2 if "num_hypotheses" in options else 0)
    runner.ramble_log_prob = -0.1
    confident = (await translate(translator, asked)).translations[0]
    assert (confident.fallback_count, confident.truncated) == (0, False)
    assert len(confident.sentences[0].token_scores) == 3 * tokens + 19
    assert confident.text.startswith(translation.text)


async def test_a_confident_output_without_an_end_is_caught_too(translator: Translator, runner: EchoRunner) -> None:
    """By its length alone, or where only the model's limit ended it."""
    tokens = rambling(runner, SHORT, log_prob=-0.1)
    for end in (3 * tokens + 21, 1000):
        runner.rambles_until = end
        translation = await translate_one(translator, SHORT)
        assert translation.sentences[0].fallback is Fallback.LENGTH


async def test_a_limit_of_the_callers_is_kept_and_its_prefix_does_not_count(
    translator: Translator, runner: EchoRunner
) -> None:
    """Cut off by the caller at an ordinary length is no runaway; what the caller wrote begins the second answer too."""
    tokens = rambling(runner, SHORT, log_prob=-3.0)
    short = await translate_one(translator, SHORT, max_output_tokens=tokens + 10)
    assert (short.fallback_count, short.truncated) == (0, True)
    prefix = "Pack my box"
    given = len(tiny_tokenizer().encode_targets([prefix])[0]) - 1
    asked = {"target_prefix": prefix, "return_token_scores": True}
    runner.rambles_until = given + 2 * tokens + 16
    assert (await translate_one(translator, SHORT, **asked)).fallback_count == 0
    runner.rambles_until += 1
    translation = await translate_one(translator, SHORT, **asked)
    assert translation.text.startswith(prefix)
    assert translation.fallback_count == 1
    assert len(translation.sentences[0].token_scores) == given + 2 * tokens + 16


@pytest.mark.parametrize("options", [{}, {"beam_size": 2}, {"temperature": 2.0, "seed": 1}, {"target_prefix": "We"}])
@pytest.mark.parametrize("target", ["de", "zh"])
async def test_a_streamed_output_without_an_end_equals_the_unary_answer(
    translator: Translator, runner: EchoRunner, options: dict[str, Any], target: str
) -> None:
    """Nothing that might be taken back was sent."""
    rambling(runner, SHORT, log_prob=-3.0)
    asked = request(f"{SHORT}\n{SHORT}", target=target, **options)
    deltas, result = await collect(translator, asked)
    assert result.translations[0].fallback_count > 0
    assert "".join(deltas) == result.translations[0].text
    assert result.translations == (await translate(translator, asked)).translations


async def test_a_second_draw_without_a_seed_takes_nothing_back(translator: Translator, runner: EchoRunner) -> None:
    """The second decoding draws other tokens, after those that a stream may have sent."""
    rambling(runner, SHORT, log_prob=-3.0)
    fallbacks = 0
    for _ in range(10):
        deltas, result = await collect(translator, request(SHORT, temperature=1.0))
        assert "".join(deltas) == result.translations[0].text
        fallbacks += result.translations[0].fallback_count
    assert fallbacks > 0


async def collect(translator: Translator, asked: TranslationRequest) -> tuple[list[str], TranslationResult]:
    """The deltas and the result of a stream."""
    deltas: list[str] = []
    async for item in translator.stream(asked, deadline=time.monotonic() + 30):
        if isinstance(item, TextDelta):
            deltas.append(item.text)
        else:
            return deltas, item
    raise AssertionError("the stream ended without a result")


@pytest.mark.parametrize("content", [LETTER, "", "  \n", "I love you.", "😀\n\nI love you. 😀", "I love 你们 you.  "])
@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"temperature": 3.0, "seed": 3}])
@pytest.mark.parametrize("target", ["de", "zh"])
async def test_deltas_joined_equal_the_unary_answer(
    translator: Translator, content: str, options: dict[str, Any], target: str
) -> None:
    """Whatever the text and the search, the stream's pieces make the unary call's text, and its end is that answer."""
    asked = request(content, target=target, **options)
    deltas, result = await collect(translator, asked)
    assert "".join(deltas) == result.translations[0].text
    assert result.translations == (await translate(translator, asked)).translations
    assert all(deltas)


async def test_greedy_streams_whole_words(translator: Translator) -> None:
    """Words come one by one and are never cut in the middle; a beam search brings whole sentences."""
    deltas, _ = await collect(translator, request("The quick brown fox.\nI love you."))
    assert len(deltas) >= 4
    words = ["The", "quick", "brown", "fox.", "I", "love", "you."]
    assert all(set(delta.split()) <= set(words) for delta in deltas)
    deltas, _ = await collect(translator, request("The quick brown fox.\nI love you.", beam_size=2))
    assert all(delta.endswith(".") for delta in deltas)


async def test_a_stream_that_is_left_frees_its_slots(translator: Translator, runner: EchoRunner) -> None:
    """A reader that goes away cancels what is left."""
    stream = translator.stream(request(LETTER * 10), deadline=time.monotonic() + 30)
    await anext(stream)
    await stream.aclose()
    await until_idle(translator)


async def test_errors_of_a_stream_come_out_plain(translator: Translator) -> None:
    """No exception group reaches the caller."""
    with pytest.raises(NotFoundError):
        await collect(translator, request("x", target="sw"))
