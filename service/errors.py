"""Every error Dragoman raises on purpose: one tree, one class per thing a person can do about it."""

from __future__ import annotations


class DragomanError(Exception):
    """Base of all expected errors; its text is one clear line that is safe to show to the caller."""


class InvalidInputError(DragomanError):
    """The caller's request or argument is wrong; `field` names the offending field where there is one."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(DragomanError):
    """The model or language pair asked for is not served here."""


class OverloadedError(DragomanError):
    """Refused at once because the queue is full; try again after `retry_after_seconds`."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QuotaError(OverloadedError):
    """Refused at once because the caller has used up what its token allows per second of `limit`, such as calls."""

    def __init__(self, message: str, *, limit: str, retry_after_seconds: float) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.limit = limit


class UnauthenticatedError(DragomanError):
    """The call brings no token, or one that is not known."""


class DeadlineError(DragomanError):
    """The work did not finish, or could not have finished, before its deadline."""


class DeadlineRefusalError(DeadlineError):
    """Refused at once, before any work: the answer is not expected before the deadline."""


class CancelledError(DragomanError):
    """The caller went away or cancelled; nobody waits for the answer."""


class UnavailableError(DragomanError):
    """Not serving now: starting, draining or shut down. Another replica may answer."""


class EngineError(DragomanError):
    """A decode step failed or gave numbers that are not numbers; the fault is ours, not the caller's."""


class ConfigError(DragomanError):
    """A setting or command-line argument is missing, contradictory or out of range."""


class BundleError(DragomanError):
    """A bundle is missing, incomplete, tampered with, or of a format this version does not read."""


class CheckpointError(DragomanError):
    """A checkpoint cannot be read or holds something that is not a usable translation model."""


class DataError(DragomanError):
    """Training or evaluation data is missing or malformed."""


class ExportError(DragomanError):
    """An export failed its own checks, so no bundle was written."""
