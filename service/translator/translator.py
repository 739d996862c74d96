"""From texts to translations: sentences out of contents, tokens through the engine, text back in its place."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from service.engine import Priority
from service.engine.options import MAX_BEAM_SIZE
from service.errors import DeadlineError, InvalidInputError
from service.translator.cache import DecodingCache
from service.translator.catalogue import Leg, ModelCatalogue, Route
from service.translator.decoding import DecodingRun, JobTokens
from service.translator.direct import Results, Work, finish, prepare
from service.translator.pivot import first_request, join_legs, outer_pair, second_request
from service.translator.sharing import SharedDecoding
from service.translator.streaming import DeltaBuilder
from service.translator.translation import (
    OPTION_FIELDS,
    TextDelta,
    TranslationRequest,
    TranslationResult,
)

_StreamQueue = asyncio.Queue[TextDelta | TranslationResult | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatorLimits:
    """What one call may ask for."""

    max_request_characters: int = 100_000
    max_content_count: int = 1024
    sentences_in_flight: int = 128
    tokens_in_flight: int = 32_768
    max_alignment_weights: int = 1_000_000


class Translator:
    """Answers requests with the models of a catalogue; used from one event loop. With a `cache`, identical sentences
    are decoded once; see service/translator/sharing.py."""

    def __init__(
        self, catalogue: ModelCatalogue, limits: TranslatorLimits, *, cache: DecodingCache | None = None
    ) -> None:
        self.catalogue = catalogue
        self.limits = limits
        self._sharing = SharedDecoding(cache)

    async def translate(
        self, request: TranslationRequest, *, priority: Priority = Priority.INTERACTIVE, deadline: float | None
    ) -> TranslationResult:
        """All translations or none; `deadline` is on the monotonic clock, None for none.

        Raises: InvalidInputError, NotFoundError, OverloadedError, DeadlineError, UnavailableError, EngineError.
        """
        async with _deadline_at(deadline):
            self._check_size(request)
            route = self.route(request)
            with self.catalogue.holding(route):
                if route.pivot_language is None:
                    work = await prepare(request, route.legs[0])
                    return await self._complete(work, priority=priority, deadline=deadline)
                first = await prepare(first_request(request), route.legs[0])
                between = await self._complete(first, priority=priority, deadline=deadline)
                second = await prepare(second_request(request, between), route.legs[1])
                result = await self._complete(second, priority=priority, deadline=deadline, patient=True)
                return join_legs(first.contents, between, result, route)

    def route(self, request: TranslationRequest) -> Route:
        """The models that `request` goes through. Raises InvalidInputError or NotFoundError."""
        return self.catalogue.route(
            model_id=request.model,
            version=request.model_version,
            source=request.source_language,
            target=request.target_language,
            allow_pivot=request.allow_pivot,
        )

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

    def _run(
        self,
        work: Work,
        *,
        priority: Priority,
        deadline: float | None,
        patient: bool = False,
        wants_tokens: bool = False,
    ) -> DecodingRun:
        return DecodingRun(
            work.model,
            self._sharing,
            work.jobs,
            priority=priority,
            deadline=deadline,
            window=self.limits.sentences_in_flight,
            window_tokens=self.limits.tokens_in_flight,
            patient=patient or priority is Priority.BULK,
            wants_tokens=wants_tokens,
        )

    def _results(self, work: Work) -> Results:
        return Results(work, most_weights=self.limits.max_alignment_weights)

    async def _complete(
        self, work: Work, *, priority: Priority, deadline: float | None, patient: bool = False
    ) -> TranslationResult:
        """Runs all jobs; with `patient` even the first wait for room, as the call was accepted before."""
        results = self._results(work)
        run = self._run(work, priority=priority, deadline=deadline, patient=patient)
        async with aclosing(run.events()) as events:
            async for event in events:
                if not isinstance(event, JobTokens):
                    results.add(event)
        return await finish(work, results)

    async def _feed(self, request: TranslationRequest, queue: _StreamQueue, deadline: float | None) -> None:
        """Puts the deltas and the result of a streamed request into `queue`."""
        async with _deadline_at(deadline):
            self._check_size(request)
            route = self.route(request)
            with self.catalogue.holding(route):
                if route.pivot_language is None:
                    queue.put_nowait(await self._feed_direct(request, route.legs[0], queue, deadline))
                else:
                    queue.put_nowait(await self._feed_through_pivot(request, route, queue, deadline))

    async def _feed_direct(
        self, request: TranslationRequest, leg: Leg, queue: _StreamQueue, deadline: float | None
    ) -> TranslationResult:
        work = await prepare(request, leg)
        deltas = DeltaBuilder(work.contents[0], work.model.tokenizer, work.pair)
        results = self._results(work)
        _put_text(queue, deltas.take())
        run = self._run(
            work, priority=Priority.INTERACTIVE, deadline=deadline, wants_tokens=request.options.beam_size == 1
        )
        async with aclosing(run.events()) as events:
            async for event in events:
                piece = work.places[event.index][1]
                if isinstance(event, JobTokens):
                    deltas.add_tokens(piece, event.ids, work.jobs[event.index].firm_length)
                else:
                    results.add(event)
                    deltas.add_result(piece, event.result.hypotheses[0].ids)
                _put_text(queue, deltas.take())
        return await finish(work, results)

    async def _feed_through_pivot(
        self, request: TranslationRequest, route: Route, queue: _StreamQueue, deadline: float | None
    ) -> TranslationResult:
        """Sends a sentence when the second model has ended it."""
        first = await prepare(first_request(request), route.legs[0])
        between = await self._complete(first, priority=Priority.INTERACTIVE, deadline=deadline)
        second = await prepare(second_request(request, between), route.legs[1])
        deltas = DeltaBuilder(first.contents[0], second.model.tokenizer, outer_pair(route))
        results = self._results(second)
        left = Counter(row for row, _ in second.places)
        ended = [row for row in range(len(second.contents)) if not left[row]]
        run = self._run(second, priority=Priority.INTERACTIVE, deadline=deadline, patient=True)
        async with aclosing(run.events()) as events:
            while True:
                for row in ended:
                    deltas.add_text(first.places[row][1], second.translation(row, results.of_jobs).text)
                _put_text(queue, deltas.take())
                event = await anext(events, None)
                if event is None:
                    return join_legs(first.contents, between, await finish(second, results), route)
                if isinstance(event, JobTokens):
                    continue
                results.add(event)
                row = second.places[event.index][0]
                left[row] -= 1
                ended = [] if left[row] else [row]

    def _check_size(self, request: TranslationRequest) -> None:
        contents, options = request.contents, request.options
        if not contents:
            raise InvalidInputError("at least one text is required", field="contents")
        if len(contents) > self.limits.max_content_count:
            message = f"{len(contents)} texts; one call may have {self.limits.max_content_count}"
            raise InvalidInputError(message, field="contents")
        # Every hypothesis is a text to be answered, and the prefix is read once for each content.
        hypotheses = min(max(1, options.num_hypotheses), MAX_BEAM_SIZE)
        characters = hypotheses * sum(map(len, contents)) + len(options.target_prefix) * len(contents)
        if characters > self.limits.max_request_characters:
            message = f"{characters} characters, counted per hypothesis and with prefixes; one call may have "
            message += str(self.limits.max_request_characters)
            raise InvalidInputError(message, field="contents")


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
