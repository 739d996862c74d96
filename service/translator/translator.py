"""From texts to translations: sentences out of contents, tokens through the engine, text back in its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from service.engine import Priority
from service.errors import DeadlineError, InvalidInputError
from service.translator.assembly import assemble
from service.translator.catalogue import LanguagePair, ModelCatalogue, ServedModel
from service.translator.decoding import DecodingJob, DecodingRun, JobResult, JobTokens
from service.translator.preparation import PreparedContent, decoding_options, prepare_contents
from service.translator.streaming import DeltaBuilder
from service.translator.translation import (
    OPTION_FIELDS,
    CallTimings,
    TextDelta,
    Translation,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
)

# Texts longer than this are split and joined on another thread, so that they hold nobody up.
_LONG_TEXT = 2_000


_StreamQueue = asyncio.Queue[TextDelta | TranslationResult | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatorLimits:
    """What one call may ask for."""

    max_request_characters: int = 100_000
    max_content_count: int = 1024
    sentences_in_flight: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A call in work: its contents, and for each job which piece of which content it is."""

    started: float
    tokenize_seconds: float
    model: ServedModel
    pair: LanguagePair
    contents: tuple[PreparedContent, ...]
    jobs: tuple[DecodingJob, ...]
    places: tuple[tuple[int, int], ...]


class Translator:
    """Answers requests with the models of a catalogue; used from one event loop."""

    def __init__(self, catalogue: ModelCatalogue, limits: TranslatorLimits) -> None:
        self.catalogue = catalogue
        self.limits = limits

    async def translate(
        self, request: TranslationRequest, *, priority: Priority = Priority.INTERACTIVE, deadline: float | None
    ) -> TranslationResult:
        """All translations or none; `deadline` is on the monotonic clock, None for none.

        Raises: InvalidInputError, NotFoundError, OverloadedError, DeadlineError, UnavailableError, EngineError.
        """
        async with _deadline_at(deadline):
            work = await self._prepare(request)
            results: list[JobResult | None] = [None] * len(work.jobs)
            run = self._run(work, priority=priority, deadline=deadline)
            async with aclosing(run.events()) as events:
                async for event in events:
                    if not isinstance(event, JobTokens):
                        results[event.index] = event
            return await self._finish(work, results)

    async def stream(
        self, request: TranslationRequest, *, deadline: float | None
    ) -> AsyncGenerator[TextDelta | TranslationResult]:
        """The translation of one content as it becomes final, then the result that `translate` would have given."""
        if len(request.contents) != 1 or request.options.num_hypotheses != 1:
            raise InvalidInputError("a stream has one hypothesis only", field="options.num_hypotheses")
        queue: _StreamQueue = asyncio.Queue()
        feeder = asyncio.create_task(self._feed(request, queue, deadline))
        feeder.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (item := await queue.get()) is not None:
                yield item
            feeder.result()
        finally:
            feeder.cancel()
            await asyncio.wait([feeder])

    async def _prepare(self, request: TranslationRequest) -> _Work:
        started = time.monotonic()
        self._check_size(request.contents)
        model, pair = self.catalogue.find(
            model_id=request.model, source=request.source_language, target=request.target_language
        )
        _check_options(request.options, model)
        if sum(map(len, request.contents)) > _LONG_TEXT:
            contents = await asyncio.to_thread(prepare_contents, request.contents, model, pair)
        else:
            contents = prepare_contents(request.contents, model, pair)
        places = tuple(
            (row, column)
            for row, content in enumerate(contents)
            for column, piece in enumerate(content.pieces)
            if not piece.copied
        )
        jobs = tuple(
            DecodingJob(
                source_ids=contents[row].pieces[column].encoding.ids,
                options=decoding_options(request.options, model.tokenizer, ordinal=ordinal, is_first=column == 0),
            )
            for ordinal, (row, column) in enumerate(places)
        )
        return _Work(
            started=started,
            tokenize_seconds=time.monotonic() - started,
            model=model,
            pair=pair,
            contents=contents,
            jobs=jobs,
            places=places,
        )

    def _run(
        self, work: _Work, *, priority: Priority, deadline: float | None, wants_tokens: bool = False
    ) -> DecodingRun:
        return DecodingRun(
            work.model.engine,
            work.jobs,
            priority=priority,
            deadline=deadline,
            window=self.limits.sentences_in_flight,
            patient=priority is Priority.BULK,
            wants_tokens=wants_tokens,
        )

    async def _feed(
        self,
        request: TranslationRequest,
        queue: asyncio.Queue[TextDelta | TranslationResult | None],
        deadline: float | None,
    ) -> None:
        """Puts the deltas and the result of a streamed request into `queue`."""
        async with _deadline_at(deadline):
            work = await self._prepare(request)
            deltas = DeltaBuilder(work.contents[0], work.model.tokenizer, work.pair)
            results: list[JobResult | None] = [None] * len(work.jobs)
            _put_text(queue, deltas.take())
            run = self._run(
                work, priority=Priority.INTERACTIVE, deadline=deadline, wants_tokens=request.options.beam_size == 1
            )
            async with aclosing(run.events()) as events:
                async for event in events:
                    piece = work.places[event.index][1]
                    if isinstance(event, JobTokens):
                        deltas.add_tokens(piece, event.ids)
                    else:
                        results[event.index] = event
                        deltas.add_result(piece, event.result.hypotheses[0].ids)
                    _put_text(queue, deltas.take())
            queue.put_nowait(await self._finish(work, results))

    async def _finish(self, work: _Work, results: Sequence[JobResult | None]) -> TranslationResult:
        ended = time.monotonic()
        done = [ended.result for ended in results if ended is not None]
        if sum(len(content.text) for content in work.contents) > _LONG_TEXT:
            translations = await asyncio.to_thread(_assemble_all, work, results)
        else:
            translations = _assemble_all(work, results)
        now = time.monotonic()
        timings = CallTimings(
            total_seconds=now - work.started,
            tokenize_seconds=work.tokenize_seconds,
            detokenize_seconds=now - ended,
            queue_seconds=max((result.timings.queue_seconds for result in done), default=0.0),
            encode_seconds=max((result.timings.encode_seconds for result in done), default=0.0),
            decode_seconds=max((result.timings.decode_seconds for result in done), default=0.0),
            first_token_seconds=max((result.timings.first_token_seconds for result in done), default=0.0),
            steps=max((result.timings.steps for result in done), default=0),
            source_tokens=sum(len(job.source_ids) for job in work.jobs),
            target_tokens=sum(len(result.hypotheses[0].ids) for result in done),
        )
        return TranslationResult(
            translations=translations, model_id=work.model.id, model_version=work.model.version, timings=timings
        )

    def _check_size(self, contents: Sequence[str]) -> None:
        if not contents:
            raise InvalidInputError("at least one text is required", field="contents")
        if len(contents) > self.limits.max_content_count:
            message = f"{len(contents)} texts; one call may have {self.limits.max_content_count}"
            raise InvalidInputError(message, field="contents")
        characters = sum(map(len, contents))
        if characters > self.limits.max_request_characters:
            message = f"{characters} characters; one call may have {self.limits.max_request_characters}"
            raise InvalidInputError(message, field="contents")


def _assemble_all(work: _Work, results: Sequence[JobResult | None]) -> tuple[Translation, ...]:
    by_place = dict(zip(work.places, results, strict=True))
    return tuple(
        assemble(
            content,
            [by_place.get((row, column)) for column in range(len(content.pieces))],
            work.model.tokenizer,
            work.pair,
        )
        for row, content in enumerate(work.contents)
    )


def _check_options(options: TranslationOptions, model: ServedModel) -> None:
    """Checks what would otherwise only show with the first sentence: a blank text must not accept nonsense."""
    decoding_options(options, model.tokenizer, ordinal=0, is_first=True)
    if options.return_alignments and not model.supports_alignments:
        raise InvalidInputError("this model has no alignments", field="options.return_alignments")
    if options.max_output_tokens is not None and options.max_output_tokens > model.max_target_tokens:
        message = f"must be at most {model.max_target_tokens} with this model"
        raise InvalidInputError(message, field="options.max_output_tokens")


def _put_text(queue: _StreamQueue, text: str) -> None:
    if text:
        queue.put_nowait(TextDelta(text=text))


@asynccontextmanager
async def _deadline_at(deadline: float | None) -> AsyncIterator[None]:
    """Ends what takes longer with DeadlineError; names options in errors of the engine as the caller knows them."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise DeadlineError("not finished before the deadline") from None
    except InvalidInputError as error:
        if error.field in OPTION_FIELDS:
            message = str(error).removeprefix(f"{error.field} ")
            raise InvalidInputError(message, field=f"options.{error.field}") from None
        raise
