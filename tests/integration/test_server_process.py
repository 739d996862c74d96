"""A server process that does not get as far as serving is reported in one line and not left behind."""

from __future__ import annotations

import os
import sys

import pytest

from loadtests.server_process import ServerProcess
from service.errors import UnavailableError


def python(program: str) -> tuple[str, ...]:
    """The command that runs ``program``."""
    return (sys.executable, "-c", program)


def test_a_server_that_ends_is_reported_with_its_last_words() -> None:
    """The exit code and the last line of its standard error say why."""
    failing = python("import sys; print('first\\nno such bundle', file=sys.stderr); sys.exit(2)")
    with pytest.raises(UnavailableError, match=r"ended with exit code 2: no such bundle$"), ServerProcess(failing):
        pass


def test_a_server_that_never_serves_is_ended() -> None:
    """After its time to start it is killed, however it hangs."""
    process = ServerProcess(python("import signal; signal.pause()"), start_seconds=0.2)
    with pytest.raises(UnavailableError, match=r"was not serving after 0\.2 s"), process:
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(process.process_id, 0)
