"""The service under load over a few gRPC channels: a failure is given back as its status, never raised."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Self

import grpc

from dragoman.v1 import translation_pb2, translation_pb2_grpc
from loadtests.request import Kind, Request

PHASES = ("queue", "tokenize", "encode", "decode", "detokenize")
"""Phases of the server's timings, in the order in which they happen."""
VANISHED = "VANISHED"
"""The status of a call that its own caller gave up; no gRPC status name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What every call of a run has in common; `timeout_seconds` is the deadline that it sends."""

    source: str
    target: str
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a call: its gRPC status name, and where it was answered the server's seconds by phase and in all.

    `first_text_seconds` runs from the sending of a stream's call to its first text.
    """

    status: str
    phases: tuple[float, ...] | None = None
    server_seconds: float | None = None
    first_text_seconds: float | None = None


class Target:
    """A server at ``address``, or several that gRPC resolves it to. Use it as an async context manager."""

    def __init__(
        self, *, address: str, calls: Calls, channels: int = 4, options: Sequence[tuple[str, str | int]] = ()
    ) -> None:
        self._calls = calls
        # Channels to one address share a connection unless told otherwise.
        arguments = [("grpc.use_local_subchannel_pool", 1), *options]
        self._channels = [grpc.aio.insecure_channel(address, options=arguments) for _ in range(channels)]
        self._stubs = cycle([translation_pb2_grpc.TranslationServiceStub(channel) for channel in self._channels])

    async def send(self, request: Request) -> Outcome:
        """Make one call, as its kind's caller would."""
        call = asyncio.ensure_future(self._stream(request) if request.kind.streaming else self._unary(request))
        try:
            async with asyncio.timeout(request.kind.vanishes_after_seconds):
                return await call
        except grpc.aio.AioRpcError as error:
            return Outcome(status=error.code().name)
        except TimeoutError:
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await call
            return Outcome(status=VANISHED)

    async def _unary(self, request: Request) -> Outcome:
        message = translation_pb2.TranslateRequest(
            contents=[request.text],
            source_language_code=self._calls.source,
            target_language_code=self._calls.target,
            options=_options(request.kind),
        )
        response = await next(self._stubs).Translate(message, timeout=self._calls.timeout_seconds)
        return _answered(response.timings, None)

    async def _stream(self, request: Request) -> Outcome:
        message = translation_pb2.TranslateStreamRequest(
            content=request.text,
            source_language_code=self._calls.source,
            target_language_code=self._calls.target,
            options=_options(request.kind),
        )
        loop = asyncio.get_running_loop()
        started, first = loop.time(), None
        timings = translation_pb2.Timings()
        async for response in next(self._stubs).TranslateStream(message, timeout=self._calls.timeout_seconds):
            if first is None:
                first = loop.time() - started
            timings = response.end.timings
            if request.kind.pause_seconds:
                await asyncio.sleep(request.kind.pause_seconds)
        return _answered(timings, first)

    async def wait_until_connected(self, *, timeout_seconds: float) -> bool:
        """Connect every channel; False if the server could not be reached in time."""
        for channel in self._channels:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await channel.channel_ready()
            except TimeoutError:
                return False
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close(None)


def _options(kind: Kind) -> translation_pb2.TranslationOptions:
    options = translation_pb2.TranslationOptions(beam_size=kind.beam_size)
    if kind.length_penalty is not None:
        options.length_penalty = kind.length_penalty
    if kind.stops_at_best:
        options.stopping_rule = translation_pb2.STOPPING_RULE_MARIAN
    return options


def _answered(timings: translation_pb2.Timings, first_text_seconds: float | None) -> Outcome:
    phases = (timings.queue, timings.tokenize, timings.encode, timings.decode, timings.detokenize)
    return Outcome(
        status="OK",
        phases=tuple(each.seconds + each.nanos / 1e9 for each in phases),
        server_seconds=timings.total.seconds + timings.total.nanos / 1e9,
        first_text_seconds=first_text_seconds,
    )
