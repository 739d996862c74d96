"""No answer is larger than a message may be: gRPC itself would fail it with a status that invites to try again."""

from __future__ import annotations

from google.protobuf.message import Message

from service.errors import InvalidInputError


def check_response_size(response: object, *, max_bytes: int) -> None:
    """Raises InvalidInputError if `response`, a message, is too large."""
    size = response.ByteSize() if isinstance(response, Message) else 0
    if size > max_bytes:
        message = f"the answer has {size} bytes, and a message may have {max_bytes}: ask for less at a time"
        raise InvalidInputError(message)
