"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import grpc

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


class TranslationClient:
    """Calls a Dragoman server; safe to share between threads; a context manager that closes its channel.

    `address` is any gRPC target: `host:port`, or `dns:///service.namespace:50051` for all replicas behind a name.
    `credentials` turn TLS on (see `tls_credentials`); `token` is sent with every call. Every method raises
    TranslationError.
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
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._stub = pb_grpc.TranslationServiceStub(self._channel)

    def translate(
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
            return self._stub.Translate(request, timeout=timeout_seconds, metadata=self._metadata(request_id))

    def stream(
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
    ) -> Iterator[pb.TranslateStreamResponse]:
        """Text deltas as they come, then the end message. Leaving the iteration cancels the call."""
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
                yield from call
            finally:
                call.cancel()  # type: ignore[no-untyped-call]

    def translate_bulk(
        self,
        items: Iterable[pb.TranslateBulkRequest],
        *,
        timeout_seconds: float | None = None,
        request_id: str | None = None,
    ) -> Iterator[pb.TranslateBulkResponse]:
        """An answer per item, in the order they finish; another thread reads `items`, as fast as the server works."""
        with _errors():
            call = self._stub.TranslateBulk(iter(items), timeout=timeout_seconds, metadata=self._metadata(request_id))
            try:
                yield from call
            finally:
                call.cancel()  # type: ignore[no-untyped-call]

    def list_models(self, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Sequence[pb.Model]:
        """The models that are served."""
        with _errors():
            return self._stub.ListModels(
                pb.ListModelsRequest(), timeout=timeout_seconds, metadata=self._metadata(None)
            ).models

    def _metadata(self, request_id: str | None) -> tuple[tuple[str, str | bytes], ...]:
        return call_metadata(request_id=request_id, token=self._token)

    def close(self) -> None:
        """Closes the channel; calls that run are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _errors() -> Iterator[None]:
    """gRPC's errors as TranslationError."""
    try:
        yield
    except grpc.RpcError as error:
        if not isinstance(error, grpc.Call):
            raise
        raise translation_error(error.code(), error.details(), error.trailing_metadata() or ()) from None
