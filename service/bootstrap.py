"""The only wiring: settings in, a running server out; start-up, readiness and shutdown in their order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from importlib.metadata import distributions
from wsgiref.simple_server import WSGIServer

import grpc
from grpc import aio
from prometheus_client import CollectorRegistry, start_http_server

from service.config import Settings
from service.errors import ConfigError
from service.logging import configure_logging, get_logger
from service.metrics import Metrics
from service.models.folders import BundleFolders
from service.models.loading import ModelLoader, RunnerLoader
from service.models.registry import ModelRegistry
from service.models.watch import watch_bundles
from service.page.application import add_page
from service.rpc.authentication import Authenticator
from service.rpc.credentials import TlsFiles, server_credentials
from service.rpc.health import HealthStates, build_health_server
from service.rpc.interceptor import CallInterceptor
from service.rpc.server import ServerOptions, bind, build_server
from service.rpc.servicer import TranslationServicer
from service.rpc.spans import CallTracer
from service.runtime import load_runners
from service.signals import call_on_signal
from service.translator import DecodingCache, ModelCatalogue, Translator, TranslatorLimits

_STALLED_STEPS = 100
_MOST_FAILURES = 20
_CALLS_IN_QUEUE = 4
"""One call's first sentences may take this part of the tokens that may wait, so that a long text fits whatever the
queue."""
_WEIGHT_BYTES = 4
"""Of an alignment, in an answer."""
_WATCH_SECONDS = 1.0
_CLOSING_SECONDS = 0.2


@dataclass(slots=True, kw_only=True)
class Application:
    """One server with everything it is made of; `run` lives as long as it."""

    settings: Settings
    metrics: Metrics
    health: HealthStates
    interceptor: CallInterceptor
    tracer: CallTracer | None
    servicer: TranslationServicer
    server: aio.Server
    health_server: aio.Server
    catalogue: ModelCatalogue
    registry: ModelRegistry
    folders: BundleFolders
    stop: asyncio.Event
    hurry: asyncio.Event
    look: asyncio.Event

    async def run(self) -> None:
        """Listens, loads, serves until `stop`, drains. Raises ConfigError or BundleError if it cannot start."""
        settings = self.settings
        tls = tls_credentials(settings)
        port = bind(self.server, settings.host, settings.port, setting="--port", credentials=tls)
        health_port = bind(self.health_server, settings.host, settings.health_port, setting="--health-port")
        http_server = serve_metrics(self.metrics, settings)
        if settings.page:
            add_page(http_server, self.servicer, self.interceptor, self.metrics)
        await self.health_server.start()
        await self.server.start()
        await self.health.set_ready(ready=False)
        await self.health.set_alive(alive=True)
        watches: list[asyncio.Task[None]] = []
        try:
            await self._load()
            watches.append(asyncio.create_task(watch_engines(self.registry, self.health, settings)))
            watches.append(asyncio.create_task(watch_bundles(self.registry, self.folders, self.look, settings)))
            if not self.stop.is_set():
                cache = build_cache(settings, self.metrics)
                self.servicer.open(Translator(self.catalogue, translator_limits(settings), cache=cache))
                await self.health.set_ready(ready=True)
                announce(settings.host, port, http_server.server_port, health_port)
            await self.stop.wait()
            await self._drain()
        finally:
            for watch in watches:
                watch.cancel()
            # First the engines, so that calls which have outlasted the drain end with UNAVAILABLE and not cut off.
            await self.registry.close()
            await self.server.stop(_CLOSING_SECONDS)
            await self.health_server.stop(None)
            if self.tracer is not None:
                await asyncio.to_thread(self.tracer.close)

    async def _load(self) -> None:
        """Loads what lies in the folders now. Raises ConfigError or BundleError for the first that cannot be served."""
        found = await asyncio.to_thread(self.folders.scan)
        if not found:
            raise ConfigError(f"--bundle-directory: {self.settings.bundle_directory} holds no bundle")
        for folder in found:
            if not self.stop.is_set():
                await self.registry.load(folder)

    async def _drain(self) -> None:
        """Readiness first, then no new calls, then the accepted ones to their end or the end of our patience."""
        get_logger().info("draining")
        await self.health.set_ready(ready=False)
        await self._unless_hurried(asyncio.sleep(self.settings.readiness_grace_seconds))
        self.servicer.close()
        await self._unless_hurried(self._until_idle())
        get_logger().info("drained")

    async def _until_idle(self) -> None:
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self.interceptor.accounting.wait_idle()
        except TimeoutError:
            get_logger().warning("drain_timed_out", seconds=self.settings.drain_seconds)

    async def _unless_hurried(self, waiting: Coroutine[object, object, None]) -> None:
        """Waits for `waiting`, or for a second signal."""
        tasks = {asyncio.ensure_future(waiting), asyncio.ensure_future(self.hurry.wait())}
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()


def build_application(settings: Settings, *, runners: RunnerLoader = load_runners) -> Application:
    """Everything but the models, wired together; call it on the event loop that will run it."""
    refuse_two_runtimes()
    configure_logging(settings.log_level)
    metrics = Metrics(CollectorRegistry())
    metrics.memory_limit.set(settings.memory_limit_bytes or 0)
    if settings.provider == "cuda":
        metrics.watch_gpu(settings.device_id)
    health = HealthStates()
    tracer = load_tracer() if settings.tracing else None
    interceptor = CallInterceptor(
        metrics,
        log_calls=settings.log_calls,
        max_calls=settings.max_calls,
        max_message_bytes=settings.max_message_bytes,
        authenticator=None if settings.tokens_file is None else Authenticator(settings.tokens_file),
        tracer=tracer,
    )
    servicer = TranslationServicer(
        metrics,
        max_deadline_seconds=settings.max_deadline_seconds,
        bulk_items_in_flight=settings.bulk_items_in_flight,
        max_message_bytes=settings.max_message_bytes,
    )
    options = ServerOptions(
        max_message_bytes=settings.max_message_bytes,
        max_connections=settings.max_connections,
        max_streams_per_connection=settings.max_streams_per_connection,
        max_connection_age_seconds=settings.max_connection_age_seconds,
        max_connection_age_grace_seconds=settings.max_deadline_seconds,
        keepalive_seconds=settings.keepalive_seconds,
        reflection=settings.reflection,
    )
    catalogue = ModelCatalogue(defaults=settings.default_models, pivoting=settings.pivoting)
    return Application(
        settings=settings,
        metrics=metrics,
        health=health,
        interceptor=interceptor,
        tracer=tracer,
        servicer=servicer,
        server=build_server(servicer, interceptor, health, options),
        health_server=build_health_server(health),
        catalogue=catalogue,
        registry=ModelRegistry(ModelLoader(settings, metrics, runners=runners), catalogue, metrics),
        folders=BundleFolders(settings.bundle, settings.bundle_directory),
        stop=asyncio.Event(),
        hurry=asyncio.Event(),
        look=asyncio.Event(),
    )


async def serve(settings: Settings, *, runners: RunnerLoader = load_runners) -> None:
    """Serves until SIGTERM or SIGINT; a second one cuts the draining short. SIGHUP looks at the bundles again."""
    application = build_application(settings, runners=runners)

    def on_signal() -> None:
        if application.stop.is_set():
            application.hurry.set()
        application.stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        call_on_signal(loop, number, on_signal)
    call_on_signal(loop, signal.SIGHUP, application.look.set)
    await application.run()


def tls_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The server's credentials, None for plain text. Raises ConfigError."""
    if settings.tls_certificate is None or settings.tls_key is None:
        if settings.tokens_file is not None:
            get_logger().warning("tokens_in_plain_text", hint="without TLS anybody on the way can read the tokens")
        return None
    return server_credentials(
        TlsFiles(certificate=settings.tls_certificate, key=settings.tls_key, client_ca=settings.tls_client_ca)
    )


def load_tracer() -> CallTracer:
    """Traces over OTLP. Raises ConfigError where the libraries for it are missing."""
    try:
        from service.tracing import otlp_tracing
    except ImportError:
        raise ConfigError("--tracing: OpenTelemetry is missing: pip install 'dragoman[tracing]'") from None
    return otlp_tracing()


def build_cache(settings: Settings, metrics: Metrics) -> DecodingCache | None:
    """The translations of past sentences, with their size on the metrics page; None where they are not kept."""
    if not settings.cache_mib:
        return None
    cache = DecodingCache(max_bytes=settings.cache_mib * 2**20)
    metrics.cache_bytes.set_function(lambda: cache.used_bytes)
    return cache


def translator_limits(settings: Settings) -> TranslatorLimits:
    """The translator's bounds on one call."""
    return TranslatorLimits(
        max_request_characters=settings.max_request_characters,
        max_content_count=settings.max_content_count,
        sentences_in_flight=settings.sentences_in_flight,
        tokens_in_flight=max(1, settings.max_queued_tokens // _CALLS_IN_QUEUE),
        max_alignment_weights=settings.max_message_bytes // _WEIGHT_BYTES,
    )


def serve_metrics(metrics: Metrics, settings: Settings) -> WSGIServer:
    """The HTTP server of /metrics, on a thread of its own. Raises ConfigError if it cannot listen."""
    try:
        server, _ = start_http_server(settings.metrics_port, addr=settings.host, registry=metrics.registry)
    except OSError as error:
        place = f"{settings.host}:{settings.metrics_port}"
        raise ConfigError(f"--metrics-port: cannot listen on {place}: {os.strerror(error.errno or 0)}") from None
    return server


async def watch_engines(registry: ModelRegistry, health: HealthStates, settings: Settings) -> None:
    """Turns liveness off while an engine has work and does not get on with it, or its runner does nothing but fail."""
    while True:
        engines = registry.engines
        stalled = any(
            engine.stalled_seconds() >= max(settings.stall_seconds, _STALLED_STEPS * engine.step_seconds())
            for engine in engines
        )
        failing = any(engine.failures() >= _MOST_FAILURES for engine in engines)
        if stalled:
            get_logger().error("engine_stalled")
        if failing:
            get_logger().error("engine_failing")
        await health.set_alive(alive=not (stalled or failing))
        await asyncio.sleep(_WATCH_SECONDS)


def announce(host: str, port: int, metrics_port: int, health_port: int) -> None:
    """The one line on standard output: that we serve, and where."""
    name = f"[{host}]" if ":" in host else host
    places = f"grpc {name}:{port} metrics http://{name}:{metrics_port}/metrics health {name}:{health_port}"
    print(f"SERVING {places}", flush=True)


def refuse_two_runtimes() -> None:
    """Raises ConfigError where both ONNX Runtimes are installed: they overwrite each other's files."""
    names = {(distribution.metadata["Name"] or "").lower() for distribution in distributions()}
    if {"onnxruntime", "onnxruntime-gpu"} <= names:
        raise ConfigError("onnxruntime and onnxruntime-gpu are both installed; uninstall both, then install one")
