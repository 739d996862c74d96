"""Bytes that are no message are refused as the client's fault, where gRPC by itself would answer INTERNAL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from google.protobuf.message import DecodeError

from service.errors import InvalidInputError


class _Malformed:
    """Stands for a request whose bytes are not a message of its type."""


def tolerant(deserialize: Callable[[bytes], object] | None) -> Callable[[bytes], object]:
    """A deserializer that makes of such bytes a value which `checked` refuses."""

    def parse(data: bytes) -> object:
        try:
            return deserialize(data) if deserialize is not None else data
        except (DecodeError, ValueError):
            return _Malformed()

    return parse


def checked(request: object) -> object:
    """The request. Raises InvalidInputError for one that is no message."""
    if isinstance(request, _Malformed):
        raise InvalidInputError("the request is not a message of this method's type")
    return request


async def all_checked(requests: AsyncIterator[object]) -> AsyncIterator[object]:
    """The requests of a stream, `checked`."""
    async for request in requests:
        yield checked(request)
