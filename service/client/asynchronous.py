"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, cast

import grpc
from grpc import aio

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service.client.errors import translation_error
from service.client.requests import (
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_TIMEOUT_SECONDS,
    call_metadata,
    stream_request,
    translate_request,
)
from service.client.service_config import channel_options


class AsyncTranslationClient:
    """Calls a Dragoman server from one event loop; an asynchronous context manager that closes its channel.

    The same calls as TranslationClient's; cancelling a task that waits for one cancels the call on the server.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        self._token = token
        options = channel_options(max_message_bytes)
        if credentials is None:
            self._channel = aio.insecure_channel(address, options)
        else:
            self._channel = aio.secure_channel(address, credentials, options)
        self._stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(self._channel)

    async def translate(
        self,
        contents: Sequence[str],
        *,
        source: str,
        target: str,
        model: str = "",
        model_version: str = "",
        disable_pivot: bool = False,
        options: pb.TranslationOptions | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        request_id: str | None = None,
    ) -> pb.TranslateResponse:
        """All contents translated, in order, or an error."""
        request = translate_request(
            contents,
            source=source,
            target=target,
            model=model,
            model_version=model_version,
            disable_pivot=disable_pivot,
            options=options,
        )
        with _errors():
            return await self._stub.Translate(request, timeout=timeout_seconds, metadata=self._metadata(request_id))

    async def stream(
        self,
        content: str,
        *,
        source: str,
        target: str,
        model: str = "",
        model_version: str = "",
        disable_pivot: bool = False,
        options: pb.TranslationOptions | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        request_id: str | None = None,
    ) -> AsyncGenerator[pb.TranslateStreamResponse]:
        """Text deltas as they come, then the end message. Closing the generator cancels the call."""
        request = stream_request(
            content,
            source=source,
            target=target,
            model=model,
            model_version=model_version,
            disable_pivot=disable_pivot,
            options=options,
        )
        with _errors():
            call = self._stub.TranslateStream(request, timeout=timeout_seconds, metadata=self._metadata(request_id))
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def translate_bulk(
        self,
        items: Iterable[pb.TranslateBulkRequest] | AsyncIterable[pb.TranslateBulkRequest],
        *,
        timeout_seconds: float | None = None,
        request_id: str | None = None,
    ) -> AsyncGenerator[pb.TranslateBulkResponse]:
        """An answer per item, in the order they finish; `items` is read as fast as the server works."""
        with _errors():
            requests = iter(items) if isinstance(items, Iterable) else aiter(items)
            call = self._stub.TranslateBulk(requests, timeout=timeout_seconds, metadata=self._metadata(request_id))
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def list_models(self, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Sequence[pb.Model]:
        """The models that are served."""
        with _errors():
            return (
                await self._stub.ListModels(
                    pb.ListModelsRequest(), timeout=timeout_seconds, metadata=self._metadata(None)
                )
            ).models

    def _metadata(self, request_id: str | None) -> tuple[tuple[str, str | bytes], ...]:
        return call_metadata(request_id=request_id, token=self._token)

    async def close(self) -> None:
        """Closes the channel; calls that run are cancelled."""
        await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@contextmanager
def _errors() -> Iterator[None]:
    """gRPC's errors as TranslationError."""
    try:
        yield
    except aio.AioRpcError as error:
        trailing_metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata())
        raise translation_error(error.code(), error.details(), trailing_metadata) from None
