"""The service under load: `Translate` over a few gRPC channels, a failure given back as its status."""

import asyncio
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Self

import grpc

from dragoman.v1 import translation_pb2, translation_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What every call of a run has in common."""

    source: str
    target: str
    beam_size: int = 1
    timeout_seconds: float = 30.0


class Target:
    """A server at ``address``. Use it as an async context manager."""

    def __init__(self, *, address: str, calls: Calls, channels: int) -> None:
        self._calls = calls
        # Channels to one address share a connection unless told otherwise.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(channels)]
        self._stubs = cycle([translation_pb2_grpc.TranslationServiceStub(channel) for channel in self._channels])

    async def send(self, text: str) -> str:
        """Translate ``text`` and return the name of the call's gRPC status."""
        request = translation_pb2.TranslateRequest(
            contents=[text],
            source_language_code=self._calls.source,
            target_language_code=self._calls.target,
            options=translation_pb2.TranslationOptions(beam_size=self._calls.beam_size),
        )
        try:
            await next(self._stubs).Translate(request, timeout=self._calls.timeout_seconds)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

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
