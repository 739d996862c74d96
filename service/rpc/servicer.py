"""The translation service's methods: convert, call the translator, convert back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from grpc import aio

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service.errors import UnavailableError
from service.metrics import Metrics
from service.rpc.bulk import BulkStream
from service.rpc.call import Call, current_call
from service.rpc.converters import (
    models_to_proto,
    request_from_proto,
    request_from_stream_proto,
    response_to_proto,
    stream_end_to_proto,
)
from service.rpc.results import record_result
from service.translator import TextDelta, TranslationRequest, TranslationResult, Translator

_LAST_WORDS_SECONDS = 1.0
"""What a client has for reading a stream that ended at its deadline."""


@contextmanager
def _cut_off_after(deadline: float) -> Iterator[None]:
    """Cancels this task soon after `deadline` (monotonic): a client that does not read holds up what is written to it,
    where no deadline of the translator's can reach."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not in a task: this is a bug")
    handle = asyncio.get_running_loop().call_at(deadline + _LAST_WORDS_SECONDS, task.cancel)
    try:
        yield
    finally:
        handle.cancel()


class TranslationServicer(pb_grpc.TranslationServiceServicer):
    """Answers UNAVAILABLE until `open` hands it a translator, and again after `close`."""

    def __init__(
        self, metrics: Metrics, *, max_deadline_seconds: float, bulk_items_in_flight: int, max_message_bytes: int
    ) -> None:
        self._metrics = metrics
        self._max_deadline_seconds = max_deadline_seconds
        self._bulk_items_in_flight = bulk_items_in_flight
        self._max_message_bytes = max_message_bytes
        self._translator: Translator | None = None
        self._closed = asyncio.Event()

    def open(self, translator: Translator) -> None:
        """Serve from now on."""
        self._translator = translator

    def close(self) -> None:
        """Refuse new calls, and new items of bulk streams; those that run go on."""
        self._closed.set()

    def serving(self) -> Translator:
        """The translator. Raises UnavailableError while there is none: before `open` and after `close`."""
        if self._closed.is_set():
            raise UnavailableError("this server is shutting down; another one may answer")
        if self._translator is None:
            raise UnavailableError("this server is still loading its models")
        return self._translator

    async def answer(self, asked: TranslationRequest) -> TranslationResult:
        """The result of a unary call, whatever its wire: bounded by the deadline's cap, and accounted for."""
        translator, call = self.serving(), current_call()
        self._note(asked, translator)
        self._charge(call, translator)
        deadline = call.capped_deadline(self._max_deadline_seconds)
        result = await translator.translate(asked, deadline=deadline)
        record_result(self._metrics, call, result)
        return result

    async def Translate(  # noqa: N802 - the wire's name
        self, request: pb.TranslateRequest, context: aio.ServicerContext[pb.TranslateRequest, pb.TranslateResponse]
    ) -> pb.TranslateResponse:
        """See translation.proto."""
        result = await self.answer(request_from_proto(request))
        return response_to_proto(result, request_id=current_call().request_id)

    async def TranslateStream(  # noqa: N802
        self,
        request: pb.TranslateStreamRequest,
        context: aio.ServicerContext[pb.TranslateStreamRequest, pb.TranslateStreamResponse],
    ) -> AsyncIterator[pb.TranslateStreamResponse]:
        """See translation.proto."""
        translator, call = self.serving(), current_call()
        asked = request_from_stream_proto(request)
        self._note(asked, translator)
        self._charge(call, translator)
        deadline = call.capped_deadline(self._max_deadline_seconds)
        with _cut_off_after(deadline):
            async with aclosing(translator.stream(asked, deadline=deadline)) as items:
                async for item in items:
                    if isinstance(item, TextDelta):
                        yield pb.TranslateStreamResponse(text_delta=item.text)
                    else:
                        record_result(self._metrics, call, item)
                        yield stream_end_to_proto(item, request_id=call.request_id)

    async def TranslateBulk(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.TranslateBulkRequest],
        context: aio.ServicerContext[pb.TranslateBulkRequest, pb.TranslateBulkResponse],
    ) -> AsyncIterator[pb.TranslateBulkResponse]:
        """See translation.proto."""
        stream = BulkStream(
            self.serving(),
            self._metrics,
            current_call(),
            closed=self._closed,
            items_in_flight=self._bulk_items_in_flight,
            max_message_bytes=self._max_message_bytes,
        )
        async with aclosing(stream.answers(request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: aio.ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse]
    ) -> pb.ListModelsResponse:
        """See translation.proto."""
        translator = self.serving()
        return models_to_proto(translator.catalogue, translator.limits)

    def _charge(self, call: Call, translator: Translator) -> None:
        """Counts the texts against the caller's quota, unless they are too long to be translated at all."""
        if call.caller is not None and call.characters <= translator.limits.max_request_characters:
            call.caller.quota.charge_characters(call.characters)
            self._metrics.token_characters.labels(call.caller.name).inc(call.characters)

    def _note(self, request: TranslationRequest, translator: Translator) -> None:
        """What the log line and the metrics say of the call, should it fail."""
        call = current_call()
        call.content_count = len(request.contents)
        call.characters = sum(map(len, request.contents))
        call.model = translator.route(request).legs[-1].model.id
