"""The bench's end of a system's process: starts it, sends jobs, reads answers, ends it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from loadtests.bench.protocol import Answer, Job
from loadtests.tied import tied
from service.errors import UnavailableError

REPOSITORY = Path(__file__).resolve().parents[2]
END_SECONDS = 2.0


class SystemProcess:
    """A running system. Use it as a context manager.

    `log` takes what the process writes to standard error. Raises UnavailableError when the process ends early.
    """

    def __init__(self, name: str, command: Sequence[str | Path], *, log: Path) -> None:
        self.name = name
        self._log = log
        # Threads are each library's own setting here, never the environment's.
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        environment["PYTHONPATH"] = str(REPOSITORY)
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                tied(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                process_group=0,  # Ctrl-C is for the bench, which then ends its systems itself
                text=True,
                encoding="utf-8",
            )
        try:
            self.versions: dict[str, str] = json.loads(self._read())
        except BaseException:
            self.close()
            raise

    def run(self, job: Job) -> Answer:
        """Have one job done."""
        requests = self._process.stdin
        if requests is None:
            raise UnavailableError(f"{self.name} has no standard input: this is a bug")
        try:
            requests.write(job.to_line())
            requests.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return Answer.from_line(self._read())

    def _read(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise self._ended()
        return line

    def _ended(self) -> UnavailableError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)  # its pipe closes before it has said its last words
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else "it said nothing"
        return UnavailableError(f"{self.name} ended early ({reason}); see {self._log}")

    def close(self) -> None:
        """End the process, by force where it does not or the wait is interrupted."""
        try:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
