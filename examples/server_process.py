"""The service as a process of its own: started on free ports, stopped by SIGTERM, never left behind."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

PORTS = re.compile(r"^SERVING grpc \S+:(?P<grpc>\d+) metrics \S+:(?P<metrics>\d+)/metrics health \S+$")


class ServerError(Exception):
    """The server did not start, or did not stop as it should; the message says it in one line."""


class ServerProcess:
    """`python -m service` on free ports. Use it as a context manager: leaving it stops the server, whatever happened.

    ``log`` receives the server's structured log (its standard error).
    """

    def __init__(self, *, bundle: Path, log: Path, options: Sequence[str] = ()) -> None:
        self._command = [sys.executable, "-m", "service", "--bundle", str(bundle)]
        self._command += ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--health-port", "0", *options]
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self.grpc_port = 0
        self.metrics_port = 0

    def start(self, *, timeout_seconds: float) -> None:
        """Start the process and wait until it says that it serves. Raises ServerError."""
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        assert self._process.stdout is not None
        lines: list[str] = []
        serving = threading.Event()
        reader = threading.Thread(target=self._read, args=(self._process.stdout, lines, serving), daemon=True)
        reader.start()
        deadline = time.monotonic() + timeout_seconds
        while not serving.wait(0.05):
            if self._process.poll() is not None:
                raise ServerError(f"the server ended with exit code {self._process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise ServerError(f"the server was not serving after {timeout_seconds:.0f} s (log: {self._log})")

    def _read(self, stream: IO[str], lines: list[str], serving: threading.Event) -> None:
        for line in stream:
            lines.append(line)
            if found := PORTS.match(line.strip()):
                self.grpc_port, self.metrics_port = int(found["grpc"]), int(found["metrics"])
                serving.set()

    def last_words(self) -> str:
        """The last line the server wrote to its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def stop(self, *, grace_seconds: float) -> int:
        """Send SIGTERM, wait, and return the exit code. Raises ServerError if it has to be killed."""
        if self._process is None:
            raise ServerError("the server was never started")
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerError(f"the server did not stop within {grace_seconds:.0f} s of SIGTERM") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
