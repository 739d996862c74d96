"""A server as a process of its own: started on free ports, stopped by SIGTERM, never left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from loadtests.cores import pin
from loadtests.tied import tied
from service.errors import UnavailableError

REPOSITORY = Path(__file__).resolve().parents[1]
SERVING = re.compile(r"SERVING grpc (?P<address>\S+)(?: metrics (?P<metrics>\S+))?")
FREE_PORTS = ("--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--health-port", "0")
START_SECONDS, STOP_SECONDS = 600.0, 30.0
# Texts come more than once in a run: an answer from the cache says nothing of the engine.
MEASURED = (*FREE_PORTS, "--no-log-calls", "--cache-mib", "0")
SERVICE = (sys.executable, "-m", "service", *MEASURED)
SLEEPING = (sys.executable, "-m", "loadtests.sleeping_server", *MEASURED)
EMPTY = (sys.executable, "-m", "loadtests.empty_server")


class ServerProcess:
    """Runs a command that prints `SERVING grpc ADDRESS [metrics URL]` when it serves. Leaving the context stops it.

    It has `start_seconds` to become ready and is pinned to `cores`. Its standard error goes to the file `log`, or to a
    temporary one. Ctrl-C does not reach it: whoever started it stops it, and it is tied to the thread that did.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cores: frozenset[int] = frozenset(),
        log: Path | None = None,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._command = [str(word) for word in command]
        self._cores = cores
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[str] = (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
            if log is None
            else log.open("w+", encoding="utf-8", errors="replace")
        )
        self.address = ""
        self.metrics_url: str | None = None

    @property
    def process_id(self) -> int:
        """Its process number; 0 before the start."""
        return self._process.pid if self._process else 0

    def start(self, options: Sequence[str] = ()) -> None:
        """Start it, with further `options`, and wait until it serves. Raises UnavailableError with its last words."""
        began = time.monotonic()
        self._process = subprocess.Popen(
            tied([*self._command, *options]),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,
        )
        timer = threading.Timer(self._start_seconds, self._process.kill)
        try:
            timer.start()
            pin(self._process.pid, self._cores)
            for line in self._process.stdout or ():
                if found := SERVING.match(line):
                    self.address, self.metrics_url = found["address"], found["metrics"]
                    return
        except BaseException:
            self.stop()
            raise
        finally:
            timer.cancel()
        code = self.stop()
        late = time.monotonic() - began >= self._start_seconds
        how = f"was not serving after {self._start_seconds:g} s" if late else f"ended with exit code {code}"
        raise UnavailableError(f"the server {how}: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its standard error."""
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> int:
        """SIGTERM, wait, and by force if that is not enough or the wait is interrupted; the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def memory_bytes(self, *, peak: bool = False) -> int | None:
        """Its resident memory now, or the most it ever was; None where the system does not tell."""
        try:
            status = Path(f"/proc/{self.process_id}/status").read_text()
        except OSError:
            return None
        found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status)
        return 1024 * int(found[1]) if found else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._log.close()
