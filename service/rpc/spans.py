"""What the edge tells of a call to whoever traces it; service/tracing.py is the one who does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import grpc

from service.translator import CallTimings


class CallSpan(Protocol):
    """The span of one call."""

    @property
    def trace_id(self) -> str:
        """In hexadecimal; empty where this trace is not kept."""

    def phases(self, timings: CallTimings) -> None:
        """The call was translated just now: its time went here."""

    def end(self, code: grpc.StatusCode, *, model: str) -> None:
        """The call ended."""


class CallTracer(Protocol):
    """Begins spans."""

    def begin(self, method: str, metadata: Mapping[str, str | bytes]) -> CallSpan:
        """The span of a call that arrives, under the caller's own if its metadata names one."""

    def close(self) -> None:
        """Hands over what was not yet sent."""
