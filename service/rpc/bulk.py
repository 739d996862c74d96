"""One TranslateBulk stream: a bounded number of items in work, each answered when it ends, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import grpc

from dragoman.v1 import translation_pb2 as pb
from service.engine import Priority
from service.errors import InvalidInputError, UnavailableError
from service.logging import describe_failure, get_logger
from service.metrics import Metrics
from service.rpc.call import Call
from service.rpc.converters import request_from_proto, response_to_proto
from service.rpc.response_size import check_response_size
from service.rpc.results import record_result
from service.rpc.status import error_status
from service.translator import Translator

MAX_ID_LENGTH = 128
_FRAME_BYTES = 1024
"""More than the id and the fields around a response take."""


class BulkStream:
    """Reads an item only when another may start; an answer that the client has not taken still counts as in work."""

    def __init__(
        self,
        translator: Translator,
        metrics: Metrics,
        call: Call,
        *,
        closed: asyncio.Event,
        items_in_flight: int,
        max_message_bytes: int,
    ) -> None:
        self._translator = translator
        self._metrics = metrics
        self._call = call
        self._closed = closed
        self._max_message_bytes = max_message_bytes
        self._room = asyncio.Semaphore(items_in_flight)
        self._answers: asyncio.Queue[pb.TranslateBulkResponse | None] = asyncio.Queue()
        self._items: set[asyncio.Task[None]] = set()

    async def answers(
        self, requests: AsyncIterator[pb.TranslateBulkRequest]
    ) -> AsyncGenerator[pb.TranslateBulkResponse]:
        """Every item's answer. Raises UnavailableError after the last one if the server closed meanwhile."""
        reader = asyncio.create_task(self._work_through(requests))
        try:
            while (answer := await self._answers.get()) is not None:
                yield answer
                self._room.release()
            await reader
        finally:
            tasks = (reader, *self._items)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _work_through(self, requests: AsyncIterator[pb.TranslateBulkRequest]) -> None:
        """Reads all items, and puts None behind the last answer."""
        try:
            await self._read(requests)
        finally:
            if self._items:
                await asyncio.wait(self._items)
            self._answers.put_nowait(None)

    async def _read(self, requests: AsyncIterator[pb.TranslateBulkRequest]) -> None:
        closing = asyncio.create_task(self._closed.wait())
        iterator = aiter(requests)
        try:
            while True:
                await self._room.acquire()
                reading = asyncio.ensure_future(anext(iterator, None))
                await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    raise UnavailableError("this server is shutting down; send the items without an answer to another")
                item = reading.result()
                if item is None:
                    return
                task = asyncio.create_task(self._answer(item))
                self._items.add(task)
                task.add_done_callback(self._items.discard)
        finally:
            closing.cancel()

    async def _answer(self, item: pb.TranslateBulkRequest) -> None:
        answer = pb.TranslateBulkResponse(id=item.id)
        code, model = grpc.StatusCode.OK, ""
        try:
            if not 0 < len(item.id) <= MAX_ID_LENGTH:
                raise InvalidInputError(f"1 to {MAX_ID_LENGTH} characters are required", field="id")
            asked = request_from_proto(item.request)
            await self._charge(sum(map(len, asked.contents)))
            result = await self._translator.translate(
                asked, priority=Priority.BULK, deadline=self._call.client_deadline
            )
            model = result.model_id
            record_result(self._metrics, self._call, result)
            self._call.content_count += len(result.translations)
            response = response_to_proto(result, request_id=self._call.request_id)
            check_response_size(response, max_bytes=self._max_message_bytes - _FRAME_BYTES)
            answer.response.CopyFrom(response)
        except Exception as error:
            failure = error_status(error, request_id=self._call.request_id)
            if failure.code is grpc.StatusCode.INTERNAL:
                get_logger().error("bulk_item_failed", **describe_failure(error))
            code = failure.code
            answer.error.CopyFrom(failure.status)
        self._metrics.bulk_items.labels(model, code.name).inc()
        self._answers.put_nowait(answer)

    async def _charge(self, characters: int) -> None:
        """Waits until the caller's quota allows the item, unless it is too long to be translated at all."""
        caller = self._call.caller
        if caller is not None and characters <= self._translator.limits.max_request_characters:
            await caller.quota.wait_for_characters(characters)
            self._metrics.token_characters.labels(caller.name).inc(characters)
