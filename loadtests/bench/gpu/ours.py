"""`python -m loadtests.bench.gpu.ours`: the service's engine over memory of a device, one sentence a call."""

from __future__ import annotations

import argparse
import dataclasses
import gc
from pathlib import Path

import onnxruntime as ort

from loadtests.bench.child import serve
from loadtests.bench.gpu.device import add_device, device_runner
from loadtests.bench.ours import NO_QUEUE_LIMIT, EngineRun
from loadtests.bench.protocol import Job
from loadtests.bench.settings import MAX_OUTPUT_TOKENS
from service.bundle import Bundle
from service.engine import Engine
from service.runtime import RuntimeSettings
from service.runtime.sessions import open_sessions


class DeviceSystem:
    """A bundle's engine on a device, started again for another number of rows; graphs are opened once."""

    def __init__(self, bundle: Bundle, runtime: RuntimeSettings, *, encode_tokens: int) -> None:
        self._bundle = bundle
        self._runtime = runtime
        self._limits = dataclasses.replace(NO_QUEUE_LIMIT, max_encode_tokens=encode_tokens)
        self._sessions = open_sessions(bundle, runtime)
        self._engine: Engine | None = None
        self._rows = 0

    def versions(self) -> dict[str, str]:
        """The bundle and what runs it."""
        manifest, runtime = self._bundle.manifest, self._runtime
        return {
            "bundle": f"{manifest.model_id} {manifest.version}",
            "precision": manifest.precision,
            "onnxruntime": str(ort.__version__),
            "provider": runtime.provider,
            "mode": runtime.mode,
            "encode_tokens": str(self._limits.max_encode_tokens),
        }

    def prepare(self, job: Job) -> EngineRun:
        """Start an engine with the job's row slots, unless one runs that has them."""
        rows = job.settings.row_slots
        if self._engine is None or self._rows != rows:
            if self._engine is not None:
                self._engine.shutdown(grace_seconds=1.0)
                self._engine = None
                gc.collect()  # an engine's threads and workers know each other, and hold the slots' memory
            runtime = dataclasses.replace(self._runtime, row_slots=rows)
            self._engine = Engine([device_runner(self._bundle, self._sessions, runtime)], limits=self._limits)
            self._engine.start()
            self._rows = rows
        return EngineRun(self._engine, job)


def main() -> None:
    """Serve one bundle in one mode."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.gpu.ours", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--mode", choices=("fast", "deterministic"), required=True)
    parser.add_argument("--encode-tokens", type=int, required=True)
    add_device(parser)
    arguments = parser.parse_args()
    runtime = RuntimeSettings(
        max_output_tokens=MAX_OUTPUT_TOKENS,
        provider=arguments.provider,
        mode=arguments.mode,
        device_id=arguments.device_id,
    )
    serve(DeviceSystem(Bundle.load(arguments.bundle), runtime, encode_tokens=arguments.encode_tokens))


if __name__ == "__main__":
    main()
