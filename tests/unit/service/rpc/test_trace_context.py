"""Which trace a call belongs to, by its `traceparent`."""

from __future__ import annotations

import pytest

from service.rpc.trace_context import trace_id_from

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_kept_trace_is_named() -> None:
    """The example of the specification, and one of a version to come, which may have more parts."""
    assert trace_id_from(f"00-{TRACE}-00f067aa0ba902b7-01") == TRACE
    assert trace_id_from(f"01-{TRACE}-00f067aa0ba902b7-03-more") == TRACE


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        "",
        f"00-{TRACE}-00f067aa0ba902b7-00",  # not kept: an exemplar would lead nowhere
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{TRACE}-01",
    ],
)
def test_anything_else_names_no_trace(value: str | bytes | None) -> None:
    """Malformed, invalid or not sampled."""
    assert trace_id_from(value) == ""
