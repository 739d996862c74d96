"""The trace that a call belongs to, as W3C Trace Context carries it (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re

TRACEPARENT_KEY = "traceparent"
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 0x01


def trace_id_from(value: str | bytes | None) -> str:
    """The trace id of a `traceparent` whose trace is kept; empty without one, or where it is malformed."""
    found = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found is not None and int(found[2], 16) & _SAMPLED else ""
