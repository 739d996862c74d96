"""Callers of all three kinds that translate the same texts for ever, and keep what they are told and what fails."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType

from grpc import aio

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc

_SECONDS = 120.0
_OF_EACH_KIND = 4


class Callers:
    """Four unary callers, four that stream, and one bulk stream with four items in flight; they never retry.

    `texts` holds, by model version, every different pair of a text and its translation.
    """

    def __init__(self, address: str, *, contents: Sequence[str], source: str, target: str) -> None:
        self._channel = aio.insecure_channel(address, options=[("grpc.enable_retries", 0)])
        self._stub = pb_grpc.TranslationServiceStub(self._channel)
        self._request = pb.TranslateRequest(contents=contents, source_language_code=source, target_language_code=target)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._answered = asyncio.Event()
        self.count = 0
        self.texts: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self.failures: list[str] = []

    @property
    def versions(self) -> set[str]:
        """Versions that answered."""
        return set(self.texts)

    async def __aenter__(self) -> Callers:
        kinds: list[Callable[[], Awaitable[None]]] = [self._translate, self._stream]
        self._tasks = [asyncio.create_task(self._for_ever(kind)) for kind in kinds for _ in range(_OF_EACH_KIND)]
        self._tasks.append(asyncio.create_task(self._bulk()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        await self._channel.close(None)

    async def until_more(self, count: int) -> None:
        """Returns after `count` more answers."""
        goal = self.count + count
        await self._until(lambda: self.count >= goal)

    async def until_answered_by(self, version: str) -> None:
        """Returns when this version has answered."""
        await self._until(lambda: version in self.texts)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(_SECONDS):
            while not holds() and not self.failures:
                self._answered.clear()
                await self._answered.wait()

    async def _for_ever(self, call: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            try:
                await call()
            except aio.AioRpcError as error:
                self._failed(f"{error.code().name}: {error.details()}")

    async def _translate(self) -> None:
        answer = await self._stub.Translate(self._request, timeout=_SECONDS)
        self._keep(answer.model_version, [each.text for each in answer.translations])

    async def _stream(self) -> None:
        content = self._request.contents[0]
        request = pb.TranslateStreamRequest(
            content=content,
            source_language_code=self._request.source_language_code,
            target_language_code=self._request.target_language_code,
        )
        text, version = "", ""
        async for message in self._stub.TranslateStream(request, timeout=_SECONDS):
            text += message.text_delta
            version = message.end.model_version
        self._keep(version, [text])

    async def _bulk(self) -> None:
        room = asyncio.Semaphore(_OF_EACH_KIND)

        async def items() -> AsyncIterator[pb.TranslateBulkRequest]:
            number = 0
            while not self._stopping.is_set():
                await room.acquire()
                yield pb.TranslateBulkRequest(id=str(number), request=self._request)
                number += 1

        try:
            async for answer in self._stub.TranslateBulk(items(), timeout=_SECONDS):
                room.release()
                if answer.WhichOneof("result") == "error":
                    self._failed(answer.error.message)
                else:
                    response = answer.response
                    self._keep(response.model_version, [each.text for each in response.translations])
        except aio.AioRpcError as error:
            self._failed(f"{error.code().name}: {error.details()}")

    def _keep(self, version: str, texts: Sequence[str]) -> None:
        self.count += 1
        self.texts[version].update(zip(self._request.contents, texts, strict=False))
        self._answered.set()

    def _failed(self, what: str) -> None:
        self.failures.append(what)
        self._stopping.set()
        self._answered.set()
