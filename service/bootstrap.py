"""The only wiring: settings in, a running server out; start-up, readiness and shutdown in their order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions

import grpc
from grpc import aio
from prometheus_client import CollectorRegistry, start_http_server

from service.config import Settings
from service.engine import Engine
from service.errors import ConfigError
from service.logging import configure_logging, get_logger
from service.metrics import Metrics
from service.models.loading import RunnerLoader, load_model
from service.rpc.authentication import Authenticator
from service.rpc.credentials import TlsFiles, server_credentials
from service.rpc.health import HealthStates, build_health_server
from service.rpc.interceptor import CallInterceptor
from service.rpc.server import ServerOptions, bind, build_server
from service.rpc.servicer import TranslationServicer
from service.runtime import MemoryBudget, load_runners
from service.translator import DecodingCache, ModelCatalogue, ServedModel, Translator, TranslatorLimits

_STALLED_STEPS = 100
_WATCH_SECONDS = 1.0
_CLOSING_SECONDS = 0.2


@dataclass(slots=True, kw_only=True)
class Application:
    """One server with everything it is made of; `run` lives as long as it."""

    settings: Settings
    metrics: Metrics
    health: HealthStates
    interceptor: CallInterceptor
    servicer: TranslationServicer
    server: aio.Server
    health_server: aio.Server
    runners: RunnerLoader
    stop: asyncio.Event
    hurry: asyncio.Event

    async def run(self) -> None:
        """Listens, loads, serves until `stop`, drains. Raises ConfigError or BundleError if it cannot start."""
        settings = self.settings
        tls = tls_credentials(settings)
        port = bind(self.server, settings.host, settings.port, setting="--port", credentials=tls)
        health_port = bind(self.health_server, settings.host, settings.health_port, setting="--health-port")
        metrics_port = serve_metrics(self.metrics, settings)
        await self.health_server.start()
        await self.server.start()
        await self.health.set_ready(ready=False)
        await self.health.set_alive(alive=True)
        models: list[ServedModel] = []
        watch: asyncio.Task[None] | None = None
        try:
            await self._load(models)
            watch = asyncio.create_task(watch_engines([model.engine for model in models], self.health, settings))
            if not self.stop.is_set():
                cache = build_cache(settings, self.metrics)
                self.servicer.open(Translator(ModelCatalogue(models), translator_limits(settings), cache=cache))
                await self.health.set_ready(ready=True)
                announce(settings.host, port, metrics_port, health_port)
            await self.stop.wait()
            await self._drain()
        finally:
            if watch is not None:
                watch.cancel()
            # First the engines, so that calls which have outlasted the drain end with UNAVAILABLE and not cut off.
            await asyncio.gather(*(asyncio.to_thread(model.engine.shutdown, grace_seconds=0.0) for model in models))
            await self.server.stop(_CLOSING_SECONDS)
            await self.health_server.stop(None)

    async def _load(self, models: list[ServedModel]) -> None:
        budget = MemoryBudget(self.settings.memory_limit_bytes)
        for directory in self.settings.bundle:
            if self.stop.is_set():
                return
            started = time.monotonic()
            model = await asyncio.to_thread(load_model, directory, self.settings, self.metrics, budget, self.runners)
            models.append(model)
            if [other.id for other in models].count(model.id) > 1:
                raise ConfigError(f"--bundle: two bundles hold a model {model.id}")
            seconds = time.monotonic() - started
            self.metrics.model_load_seconds.labels(model.id).set(seconds)
            get_logger().info("model_loaded", model=model.id, version=model.version, seconds=round(seconds, 3))

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
                await self.interceptor.wait_idle()
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
    health = HealthStates()
    interceptor = CallInterceptor(
        metrics,
        log_calls=settings.log_calls,
        max_calls=settings.max_calls,
        authenticator=None if settings.tokens_file is None else Authenticator(settings.tokens_file),
    )
    servicer = TranslationServicer(
        metrics,
        max_deadline_seconds=settings.max_deadline_seconds,
        bulk_items_in_flight=settings.bulk_items_in_flight,
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
    return Application(
        settings=settings,
        metrics=metrics,
        health=health,
        interceptor=interceptor,
        servicer=servicer,
        server=build_server(servicer, interceptor, health, options),
        health_server=build_health_server(health),
        runners=runners,
        stop=asyncio.Event(),
        hurry=asyncio.Event(),
    )


async def serve(settings: Settings, *, runners: RunnerLoader = load_runners) -> None:
    """Serves until SIGTERM or SIGINT; a second one cuts the draining short."""
    application = build_application(settings, runners=runners)

    def on_signal() -> None:
        if application.stop.is_set():
            application.hurry.set()
        application.stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await application.run()


def build_cache(settings: Settings, metrics: Metrics) -> DecodingCache | None:
    """The translations of past sentences, with their size on the metrics page; None where they are not kept."""
    if not settings.cache_mib:
        return None
    cache = DecodingCache(max_bytes=settings.cache_mib * 2**20)
    metrics.cache_bytes.set_function(lambda: cache.used_bytes)
    return cache


def tls_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The server's credentials, None for plain text. Raises ConfigError."""
    if settings.tls_certificate is None or settings.tls_key is None:
        if settings.tokens_file is not None:
            get_logger().warning("tokens_in_plain_text", hint="without TLS anybody on the way can read the tokens")
        return None
    return server_credentials(
        TlsFiles(certificate=settings.tls_certificate, key=settings.tls_key, client_ca=settings.tls_client_ca)
    )


def translator_limits(settings: Settings) -> TranslatorLimits:
    """The translator's bounds on one call."""
    return TranslatorLimits(
        max_request_characters=settings.max_request_characters,
        max_content_count=settings.max_content_count,
        sentences_in_flight=settings.sentences_in_flight,
    )


def serve_metrics(metrics: Metrics, settings: Settings) -> int:
    """The port on which /metrics is served. Raises ConfigError if it cannot."""
    try:
        server, _ = start_http_server(settings.metrics_port, addr=settings.host, registry=metrics.registry)
    except OSError as error:
        place = f"{settings.host}:{settings.metrics_port}"
        raise ConfigError(f"--metrics-port: cannot listen on {place}: {os.strerror(error.errno or 0)}") from None
    return int(server.server_port)


async def watch_engines(engines: Sequence[Engine], health: HealthStates, settings: Settings) -> None:
    """Turns liveness off while an engine has work and does not get on with it."""
    while True:
        alive = all(
            engine.stalled_seconds() < max(settings.stall_seconds, _STALLED_STEPS * engine.step_seconds())
            for engine in engines
        )
        if not alive:
            get_logger().error("engine_stalled")
        await health.set_alive(alive=alive)
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
