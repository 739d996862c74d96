"""Around every gRPC call: who may make it, its request id, and the status of its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias, cast

import grpc
from grpc import aio

from service.errors import DragomanError
from service.metrics import Metrics
from service.rpc.accounting import CallAccounting
from service.rpc.authentication import Authenticator, Caller
from service.rpc.call import REQUEST_ID_KEY, Call, current_call, request_id_from
from service.rpc.request_bytes import all_checked, checked, tolerant
from service.rpc.response_size import check_response_size
from service.rpc.spans import CallTracer
from service.rpc.trace_context import TRACEPARENT_KEY, trace_id_from

SERVICE = "dragoman.v1.TranslationService"
GOOGLE_SERVICE = "google.cloud.translation.v3.TranslationService"
GOOGLE_METHODS = frozenset({"TranslateText", "GetSupportedLanguages"})

# What gRPC hands around is untyped: messages of any method. (Quoted, as these are generic in the stubs only.)
Context: TypeAlias = "aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Wraps the methods of the translation services, ours and Google's; others, such as health, pass as they are."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        log_calls: bool,
        max_calls: int,
        max_message_bytes: int,
        authenticator: Authenticator | None = None,
        tracer: CallTracer | None = None,
    ) -> None:
        self.accounting = CallAccounting(metrics, log_calls=log_calls, max_calls=max_calls)
        self._max_message_bytes = max_message_bytes
        self._authenticator = authenticator
        self._tracer = tracer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is None or service not in (SERVICE, GOOGLE_SERVICE):
            return handler
        try:
            caller = self._admit(handler_call_details)
        except DragomanError as refusal:
            return self._refused(refusal, method)
        return self._wrapped(handler, method, caller)

    def _admit(self, details: grpc.HandlerCallDetails) -> Caller | None:
        """Who calls. Raises OverloadedError, UnauthenticatedError."""
        self.accounting.refuse_if_full()
        if self._authenticator is None:
            return None
        return self._authenticator.caller_of(details.invocation_metadata or ())

    def _refused(self, refusal: DragomanError, method: str) -> Handler:
        """Answers with an error and reads no message, whatever the method's messages are."""

        async def refuse(requests: AsyncIterator[object], context: Context) -> object:
            async with self._around(method, context, None):
                raise refusal

        return grpc.stream_unary_rpc_method_handler(refuse)

    def _wrapped(self, handler: Handler, method: str, caller: Caller | None) -> Handler:
        deserializer, serializer = tolerant(handler.request_deserializer), handler.response_serializer
        if handler.unary_unary:
            unary = cast("Callable[[object, Context], Awaitable[object]]", handler.unary_unary)

            async def answer(request: object, context: Context) -> object:
                async with self._around(method, context, caller):
                    response = await unary(checked(request), context)
                    check_response_size(response, max_bytes=self._max_message_bytes)
                    await _send_request_id(context)
                    return response

            return grpc.unary_unary_rpc_method_handler(answer, deserializer, serializer)
        if handler.unary_stream:
            stream = cast("Callable[[object, Context], AsyncGenerator[object]]", handler.unary_stream)

            async def answers(request: object, context: Context) -> AsyncIterator[object]:
                async with (
                    self._around(method, context, caller),
                    aclosing(stream(checked(request), context)) as responses,
                ):
                    async for response in _with_request_id(responses, context):
                        check_response_size(response, max_bytes=self._max_message_bytes)
                        yield response

            return grpc.unary_stream_rpc_method_handler(answers, deserializer, serializer)
        bulk = cast("Callable[[AsyncIterator[object], Context], AsyncGenerator[object]]", handler.stream_stream)

        async def exchange(requests: AsyncIterator[object], context: Context) -> AsyncIterator[object]:
            async with (
                self._around(method, context, caller),
                aclosing(bulk(all_checked(requests), context)) as responses,
            ):
                async for response in _with_request_id(responses, context):
                    yield response

        return grpc.stream_stream_rpc_method_handler(exchange, deserializer, serializer)

    @asynccontextmanager
    async def _around(self, method: str, context: Context, caller: Caller | None) -> AsyncIterator[None]:
        metadata = dict(context.invocation_metadata() or ())
        call = Call(
            method=method,
            request_id=request_id_from(metadata.get(REQUEST_ID_KEY)),
            trace_id=trace_id_from(metadata.get(TRACEPARENT_KEY)),
            client_seconds=context.time_remaining(),
            caller=caller,
        )
        if self._tracer is not None:
            service = GOOGLE_SERVICE if method in GOOGLE_METHODS else SERVICE
            call.span = self._tracer.begin(f"{service}/{method}", metadata)
            call.trace_id = call.span.trace_id
        accounting = self.accounting
        with accounting.running(call):
            try:
                if caller is not None:
                    caller.quota.charge_call()
                yield
            except asyncio.CancelledError:
                accounting.ended(call, _code_of_cancellation(call))
                raise
            except (aio.AbortError, GeneratorExit):
                accounting.ended(call, grpc.StatusCode.CANCELLED)
                raise
            except Exception as error:
                answer = accounting.failed(call, error)
                trailing_metadata = ((REQUEST_ID_KEY, call.request_id), *answer.trailing_metadata())
                await context.abort(answer.code, answer.status.message, trailing_metadata)
            else:
                accounting.ended(call, grpc.StatusCode.OK)


async def _send_request_id(context: Context) -> None:
    """Sends the request id ahead of an answer. Never ahead of an error: gRPC retries no call whose answer has begun."""
    await context.send_initial_metadata(((REQUEST_ID_KEY, current_call().request_id),))


async def _with_request_id(responses: AsyncIterator[object], context: Context) -> AsyncIterator[object]:
    first = True
    async for response in responses:
        if first:
            await _send_request_id(context)
            first = False
        yield response


def _code_of_cancellation(call: Call) -> grpc.StatusCode:
    """gRPC cancels a handler both when its client leaves and when the client's deadline passes."""
    expired = call.client_seconds is not None and call.seconds >= call.client_seconds
    return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
