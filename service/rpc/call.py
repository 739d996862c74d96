"""What is known of one call: its id, deadline and size, for the log line and the metrics that it ends with."""

from __future__ import annotations

import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

from service.rpc.authentication import Caller
from service.rpc.spans import CallSpan

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True, kw_only=True)
class Call:
    """One call while it runs; the servicer fills in what it learns.

    `caller` is None where no tokens are asked for; `trace_id` is what exemplars name: that of the client's
    `traceparent`, or of our own span where there is one.
    """

    method: str
    request_id: str
    trace_id: str = ""
    span: CallSpan | None = None
    caller: Caller | None = None
    client_seconds: float | None = None
    started: float = field(default_factory=time.monotonic)
    model: str = ""
    content_count: int = 0
    characters: int = 0
    source_tokens: int = 0
    target_tokens: int = 0

    @property
    def seconds(self) -> float:
        """Time since it arrived."""
        return time.monotonic() - self.started

    @property
    def client_deadline(self) -> float | None:
        """The client's deadline on the monotonic clock, None if it set none."""
        return None if self.client_seconds is None else self.started + self.client_seconds

    def capped_deadline(self, max_seconds: float) -> float:
        """The client's deadline, but at most `max_seconds` after the arrival."""
        cap = self.started + max_seconds
        return cap if self.client_deadline is None else min(cap, self.client_deadline)


_current: ContextVar[Call] = ContextVar("dragoman_call")


def enter_call(call: Call) -> None:
    """Makes `call` the one that this task works for."""
    _current.set(call)


def current_call() -> Call:
    """The call that this task works for."""
    return _current.get()


def request_id_from(value: str | bytes | None) -> str:
    """The client's request id if it is well-formed, else a new one."""
    if isinstance(value, str) and _REQUEST_ID.fullmatch(value):
        return value
    return uuid.uuid4().hex
