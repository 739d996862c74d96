"""Who calls: bearer tokens, looked up in a file that may change while the server runs."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from service.errors import ConfigError, UnauthenticatedError
from service.logging import get_logger
from service.rpc.file_state import FileState, file_state
from service.rpc.quota import Quota
from service.tokens import TokenLimits, digest_of, read_tokens

AUTHORIZATION_KEY = "authorization"
LOOK_SECONDS = 1.0
"""How long a change of the file may go unnoticed."""

_BEARER = re.compile(r"bearer +(\S{1,512})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The holder of a token, by the name that the file gives it."""

    name: str
    quota: Quota


class Authenticator:
    """Knows the callers of a tokens file. Used from one event loop."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError with one line if the file cannot be used."""
        self._path = path
        self._clock = clock
        self._callers: dict[str, Caller] = {}
        self._seen: FileState = ()
        self._looked = clock()
        self._read()

    def caller_of(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Who holds the token that a call brings. Raises UnauthenticatedError."""
        self._look()
        value = next((value for key, value in metadata if key == AUTHORIZATION_KEY), "")
        bearer = _BEARER.fullmatch(value) if isinstance(value, str) else None
        if bearer is None:
            raise UnauthenticatedError("a token is required: send the metadata `authorization: Bearer TOKEN`")
        digest, found = digest_of(bearer[1]), None
        for known, caller in self._callers.items():  # all of them, so that time tells nothing of the one that fits
            if hmac.compare_digest(digest, known):
                found = caller
        if found is None:
            raise UnauthenticatedError("this token is not known here")
        return found

    def _look(self) -> None:
        """Reads the file again if it has changed; a broken one changes nothing."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if file_state([self._path]) == self._seen:
            return
        try:
            self._read()
        except ConfigError as error:
            get_logger().error("tokens_not_reloaded", reason=str(error))
        else:
            get_logger().info("tokens_reloaded", count=len(self._callers))

    def _read(self) -> None:
        self._seen = file_state([self._path])
        entries = read_tokens(self._path)
        known = {caller.name: caller.quota for caller in self._callers.values()}
        callers: dict[str, Caller] = {}
        for name, entry in entries.items():
            limits = TokenLimits(**entry.model_dump(exclude={"sha256"}))
            quota = known.get(name)
            if quota is None or quota.limits != limits:  # else it goes on: a reload gives nobody a new burst
                quota = Quota(limits, clock=self._clock)
            callers[entry.sha256] = Caller(name=name, quota=quota)
        self._callers = callers
