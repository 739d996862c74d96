"""The messages that both clients send."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.v1 import translation_pb2 as pb

DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_MAX_MESSAGE_BYTES = 16 * 1024 * 1024


def translate_request(
    contents: Sequence[str],
    *,
    source: str,
    target: str,
    model: str = "",
    model_version: str = "",
    disable_pivot: bool = False,
    options: pb.TranslationOptions | None = None,
) -> pb.TranslateRequest:
    """A unary request; also what a bulk item holds."""
    return pb.TranslateRequest(
        contents=contents,
        source_language_code=source,
        target_language_code=target,
        model=model,
        model_version=model_version,
        disable_pivot=disable_pivot,
        options=options,
    )


def stream_request(
    content: str,
    *,
    source: str,
    target: str,
    model: str = "",
    model_version: str = "",
    disable_pivot: bool = False,
    options: pb.TranslationOptions | None = None,
) -> pb.TranslateStreamRequest:
    """A streaming request."""
    return pb.TranslateStreamRequest(
        content=content,
        source_language_code=source,
        target_language_code=target,
        model=model,
        model_version=model_version,
        disable_pivot=disable_pivot,
        options=options,
    )


def call_metadata(*, request_id: str | None, token: str | None) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata that names the call, if it has a name, and says who calls, if there is a token."""
    name = () if request_id is None else (("x-request-id", request_id),)
    return name if token is None else (*name, ("authorization", f"Bearer {token}"))
