"""What is said of a call beside its numbers: its length class, and the trace that it belongs to."""

from __future__ import annotations

LENGTH_CLASSES = {"short": 200, "medium": 2_000}
"""Code points of all texts of a call, at most; what is longer is "long". Each class has an objective of its own."""


def length_class(characters: int) -> str:
    """The class whose latency objective a call of so many code points has; "none" for calls without text."""
    if not characters:
        return "none"
    return next((name for name, longest in LENGTH_CLASSES.items() if characters <= longest), "long")


def exemplar(trace_id: str) -> dict[str, str] | None:
    """What links an observation to its trace; None for a call that nobody traces."""
    return {"trace_id": trace_id} if trace_id else None
