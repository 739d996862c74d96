"""The service in the test's own process, as bootstrap wires it, over a directory of bundles."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from service.bootstrap import Application, build_application
from service.bundle import Bundle
from service.client import AsyncTranslationClient
from service.config import load_settings
from service.engine import ModelRunner
from service.models.loading import RunnerLoader
from service.runtime import RuntimeSettings, load_runners
from tests.doubles.echo_model import EchoRunner, tiny_tokenizer
from tests.doubles.sleeping_server import LOOPBACK, until_ready


def echo_runners(bundle: Bundle, settings: RuntimeSettings) -> list[ModelRunner]:
    """Runners for bundles of `write_echo_bundle`."""
    return [EchoRunner(tiny_tokenizer(), row_slots=settings.row_slots) for _ in range(settings.workers)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformServer:
    """A server that serves what lies in its directory."""

    address: str
    application: Application

    def client(self) -> AsyncTranslationClient:
        """A new client of it."""
        return AsyncTranslationClient(self.address)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of the metrics page; 0 if there is none."""
        return self.application.metrics.registry.get_sample_value(f"dragoman_{name}", labels) or 0.0

    @property
    def versions(self) -> list[str]:
        """Of all models that serve, in their order."""
        return [model.version for model in self.application.catalogue.models]

    async def follow(self, *versions: str) -> None:
        """Has the bundles looked at, and returns when exactly these versions serve and no other is in memory."""
        self.application.look.set()
        registry = self.application.registry
        async with asyncio.timeout(120):
            while self.versions != list(versions) or len(registry.engines) != len(versions):
                await asyncio.sleep(0.002)


@asynccontextmanager
async def platform_server(
    directory: Path, *, options: Sequence[str] = (), runners: RunnerLoader = load_runners
) -> AsyncIterator[PlatformServer]:
    """Starts one with the service's command-line `options` and stops it, draining, afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = ["--bundle-directory", str(directory), "--port", str(port), "--readiness-grace-seconds", "0"]
    application = build_application(load_settings([*given, *LOOPBACK, *options]), runners=runners)
    running = asyncio.create_task(application.run())
    try:
        await asyncio.wait_for(until_ready(f"127.0.0.1:{port}"), 60)
        yield PlatformServer(address=f"127.0.0.1:{port}", application=application)
    finally:
        application.stop.set()
        await running
