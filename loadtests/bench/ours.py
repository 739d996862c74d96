"""`python -m loadtests.bench.ours`: the service's engine and runtime as a library, one sentence a call."""

from __future__ import annotations

import argparse
import gc
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path

from loadtests.bench.child import serve
from loadtests.bench.closed_loop import Call
from loadtests.bench.protocol import IdRows, Job
from loadtests.bench.settings import MAX_OUTPUT_TOKENS, Search, Settings
from service.bundle import Bundle
from service.engine import DecodingOptions, DecodingResult, Engine, EngineLimits, Priority, StoppingRule
from service.runtime import OnnxRunner, RuntimeSettings
from service.runtime.sessions import Sessions, open_sessions

NO_QUEUE_LIMIT = EngineLimits(max_waiting_sequences=10**6, max_waiting_tokens=10**9)


def options_of(search: Search) -> DecodingOptions:
    """The engine's options for a search."""
    rule = StoppingRule.MARIAN if search.stops_at_best else StoppingRule.REFERENCE
    return DecodingOptions(beam_size=search.beam_size, length_penalty=search.length_penalty, stopping_rule=rule)


class EngineRun:
    """A job for the engine; see loadtests.bench.child.Run."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._sources = job.sources
        self._options = options_of(job.search)

    def start(self, call: Call) -> Future[DecodingResult]:
        """Submit the one sentence of a call."""
        (index,) = call
        return self._engine.submit(self._sources[index], self._options, priority=Priority.BULK).future

    def ids(self, raw: DecodingResult) -> IdRows:
        """The best hypothesis."""
        return [list(raw.hypotheses[0].ids)]


class EngineSystem:
    """A bundle's engine, started again for each set-up; graphs are opened again only for another number of threads."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._sessions: Sessions | None = None
        self._engine: Engine | None = None
        self._settings: Settings | None = None

    def versions(self) -> dict[str, str]:
        """The bundle and what runs it."""
        manifest = self._bundle.manifest
        bundle = f"{manifest.model_id} {manifest.version}"
        return {"bundle": bundle, "precision": manifest.precision, "onnxruntime": version("onnxruntime")}

    def prepare(self, job: Job) -> EngineRun:
        """Start an engine for the job's settings, unless one runs that has them."""
        settings = job.settings
        if self._engine is None or self._settings != settings:
            if self._engine is not None:
                self._engine.shutdown(grace_seconds=1.0)
                self._engine = None
                gc.collect()  # an engine's threads and workers know each other, and hold the slots' memory
            self._engine = Engine(self._runners(settings), limits=NO_QUEUE_LIMIT)
            self._engine.start()
            self._settings = settings
        return EngineRun(self._engine, job)

    def _runners(self, settings: Settings) -> list[OnnxRunner]:
        runtime = RuntimeSettings(
            workers=settings.workers,
            threads_per_worker=settings.threads,
            row_slots=settings.row_slots,
            max_output_tokens=MAX_OUTPUT_TOKENS,
        )
        if self._sessions is None or self._settings is None or self._settings.threads != settings.threads:
            self._sessions = open_sessions(self._bundle, runtime)
        sessions = self._sessions
        return [OnnxRunner(self._bundle, sessions, runtime) for _ in range(settings.workers)]


def main() -> None:
    """Serve one bundle."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.ours", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    serve(EngineSystem(Bundle.load(parser.parse_args().bundle)))


if __name__ == "__main__":
    main()
