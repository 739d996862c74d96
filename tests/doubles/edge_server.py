"""A real gRPC server on a free port over the echo model, as bootstrap would wire it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from service.client import AsyncTranslationClient
from service.engine import Engine, EngineLimits
from service.metrics import EngineMetrics, Metrics
from service.rpc.authentication import Authenticator
from service.rpc.credentials import TlsFiles, server_credentials
from service.rpc.health import HealthStates
from service.rpc.interceptor import CallInterceptor
from service.rpc.server import ServerOptions, bind, build_server
from service.rpc.servicer import TranslationServicer
from service.rpc.spans import CallTracer
from service.translator import ModelCatalogue, Translator, TranslatorLimits
from tests.doubles.echo_model import EchoRunner, echo_model, tiny_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeServer:
    """A running server and everything a test wants to look into."""

    address: str
    runner: EchoRunner
    engine: Engine
    metrics: Metrics
    health: HealthStates
    servicer: TranslationServicer
    interceptor: CallInterceptor
    translator: Translator

    def client(self) -> AsyncTranslationClient:
        """A new client of it."""
        return AsyncTranslationClient(self.address)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of the metrics page; 0 if there is none."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def until_idle(self) -> None:
        """Returns when neither the engine nor the edge holds anything any more."""
        await until(lambda: self.engine.waiting == self.engine.running == 0)
        await asyncio.wait_for(self.interceptor.accounting.wait_idle(), 20)


async def until(holds: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails the test when it never does."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def edge_server(
    *,
    max_deadline_seconds: float = 60.0,
    bulk_items_in_flight: int = 4,
    max_waiting: int = 16,
    opened: bool = True,
    port: int = 0,
    max_calls: int = 1000,
    max_connections: int = 100,
    max_message_bytes: int = 4 * 1024 * 1024,
    max_streams_per_connection: int = 1000,
    tokens_file: Path | None = None,
    tls: TlsFiles | None = None,
    tracer: CallTracer | None = None,
    log_calls: bool = True,
) -> AsyncIterator[EdgeServer]:
    """Starts one, and stops it afterwards; `opened` False leaves it without a translator, as while loading."""
    metrics = Metrics(CollectorRegistry())
    runner = EchoRunner(tiny_tokenizer())
    limits = EngineLimits(max_waiting_sequences=max_waiting)
    model = echo_model(tiny_tokenizer(), runner=runner, limits=limits, observer=EngineMetrics(metrics, "echo"))
    translator = Translator(
        ModelCatalogue([model]),
        TranslatorLimits(max_request_characters=10_000, sentences_in_flight=min(16, max_waiting)),
    )
    servicer = TranslationServicer(
        metrics,
        max_deadline_seconds=max_deadline_seconds,
        bulk_items_in_flight=bulk_items_in_flight,
        max_message_bytes=max_message_bytes,
    )
    authenticator = None if tokens_file is None else Authenticator(tokens_file)
    interceptor = CallInterceptor(
        metrics,
        log_calls=log_calls,
        max_calls=max_calls,
        max_message_bytes=max_message_bytes,
        authenticator=authenticator,
        tracer=tracer,
    )
    health = HealthStates()
    options = ServerOptions(
        max_message_bytes=max_message_bytes,
        max_connections=max_connections,
        max_streams_per_connection=max_streams_per_connection,
        max_connection_age_seconds=1800.0,
        max_connection_age_grace_seconds=60.0,
        keepalive_seconds=60.0,
        reflection=True,
    )
    server = build_server(servicer, interceptor, health, options)
    credentials = None if tls is None else server_credentials(tls)
    bound = bind(server, "127.0.0.1", port, setting="--port", credentials=credentials)
    model.engine.start()
    await server.start()
    if opened:
        servicer.open(translator)
        await health.set_ready(ready=True)
    try:
        yield EdgeServer(
            address=f"127.0.0.1:{bound}",
            runner=runner,
            engine=model.engine,
            metrics=metrics,
            health=health,
            servicer=servicer,
            interceptor=interceptor,
            translator=translator,
        )
    finally:
        runner.gate.set()
        await server.stop(None)
        await asyncio.to_thread(model.engine.shutdown, grace_seconds=1.0)
