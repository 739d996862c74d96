"""The service in the test's own process, as bootstrap wires it, around a runner that only sleeps."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtests.sleeping_server.bundle import write_bundle
from loadtests.sleeping_server.runner import sleeping_runners
from loadtests.sleeping_server.step_times import StepTimes
from service.bootstrap import Application, build_application
from service.config import load_settings
from service.rpc.health import READINESS

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
LOOPBACK = ("--host", "127.0.0.1", "--metrics-port", "0", "--health-port", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepingServer:
    """A server that serves; `application` holds its metrics and health, and stops it by `stop`."""

    address: str
    application: Application

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of the metrics page; 0 if there is none."""
        return self.application.metrics.registry.get_sample_value(name, labels) or 0.0


async def until_ready(address: str) -> None:
    """Returns when the server at `address` says that it is ready."""
    async with grpc.aio.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=READINESS)
        async for answer in health_pb2_grpc.HealthStub(channel).Watch(request, wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


@asynccontextmanager
async def sleeping_server(*, options: Sequence[str] = (), time_scale: float = 1.0) -> AsyncIterator[SleepingServer]:
    """Starts one with the service's command-line `options` and stops it, draining, afterwards."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
        write_bundle(REPOSITORY / "models" / "en-defres", Path(directory))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()  # the service refuses a port in use
        settings = load_settings(["--bundle", directory, "--port", str(port), *LOOPBACK, *options])
        times = StepTimes.load().scaled(time_scale)
        application = build_application(settings, runners=partial(sleeping_runners, times=times))
        running = asyncio.create_task(application.run())
        try:
            await asyncio.wait_for(until_ready(f"127.0.0.1:{port}"), START_SECONDS)
            yield SleepingServer(address=f"127.0.0.1:{port}", application=application)
        finally:
            application.stop.set()
            await running
