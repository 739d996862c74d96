"""Wiring: what start-up refuses, and the watchdog."""

from __future__ import annotations

import asyncio
import importlib.metadata
from email.message import Message

import pytest
from prometheus_client import CollectorRegistry

from service import bootstrap
from service.bootstrap import refuse_two_runtimes, watch_engines
from service.config import Settings
from service.engine import DecodingOptions
from service.errors import ConfigError, EngineError
from service.metrics import Metrics
from service.models.loading import ModelLoader
from service.models.registry import ModelRegistry
from service.rpc.health import HealthStates
from service.translator import ModelCatalogue
from tests.doubles.echo_model import EchoRunner, echo_model, tiny_tokenizer


class _Distribution:
    """An installed package, as far as its name goes."""

    def __init__(self, name: str) -> None:
        self.metadata = Message()
        self.metadata["Name"] = name


@pytest.mark.parametrize(
    ("installed", "accepted"),
    [
        (["onnxruntime"], True),
        (["onnxruntime-gpu", "numpy"], True),
        (["onnxruntime", "onnxruntime-gpu"], False),
        (["ONNXRuntime-GPU", "onnxruntime"], False),
    ],
)
def test_two_onnx_runtimes_are_refused(monkeypatch: pytest.MonkeyPatch, installed: list[str], accepted: bool) -> None:
    """They overwrite each other's files, so that neither can be trusted."""
    monkeypatch.setattr(bootstrap, "distributions", lambda: [_Distribution(name) for name in installed])
    if accepted:
        refuse_two_runtimes()
        return
    with pytest.raises(ConfigError, match="both installed"):
        refuse_two_runtimes()


def test_this_environment_holds_one_runtime() -> None:
    """Otherwise every other test would be in doubt."""
    assert importlib.metadata.version("onnxruntime")
    refuse_two_runtimes()


async def test_the_watchdog_turns_liveness_off_while_a_runner_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work waits and no step ends: not alive. The step ends after all: alive again. Idle is alive."""
    monkeypatch.setattr(bootstrap, "_WATCH_SECONDS", 0.01)
    runner = EchoRunner(tiny_tokenizer())
    model = echo_model(tiny_tokenizer(), runner=runner)
    health = HealthStates()
    states: list[bool] = []
    changed = asyncio.Event()

    async def note(*, alive: bool) -> None:
        if states[-1:] != [alive]:
            states.append(alive)
            changed.set()

    monkeypatch.setattr(health, "set_alive", note)
    metrics = Metrics(CollectorRegistry())
    settings = Settings(bundle=("a",), stall_seconds=0.05)  # type: ignore[arg-type]
    model.engine.start()
    registry = ModelRegistry(ModelLoader(settings, metrics), ModelCatalogue(), metrics)
    monkeypatch.setattr(ModelRegistry, "engines", [model.engine])
    watch = asyncio.create_task(watch_engines(registry, health, settings))

    async def next_change() -> None:
        async with asyncio.timeout(20):
            await changed.wait()
        changed.clear()

    await next_change()
    runner.gate.clear()
    ticket = model.engine.submit(model.tokenizer.encode("I love you.").ids, DecodingOptions())
    await next_change()
    runner.gate.set()
    await next_change()
    assert states == [True, False, True]
    assert ticket.future.result(20).hypotheses
    watch.cancel()
    await asyncio.to_thread(model.engine.shutdown, grace_seconds=5.0)


async def test_the_watchdog_turns_liveness_off_while_every_turn_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that has broken answers at once, with errors, and would draw all calls to itself."""
    monkeypatch.setattr(bootstrap, "_WATCH_SECONDS", 0.01)
    runner = EchoRunner(tiny_tokenizer())
    model = echo_model(tiny_tokenizer(), runner=runner)
    health, states = HealthStates(), asyncio.Queue[bool]()

    async def note(*, alive: bool) -> None:
        states.put_nowait(alive)

    async def until(wanted: bool) -> None:
        async with asyncio.timeout(20):
            while await states.get() != wanted:
                pass

    monkeypatch.setattr(health, "set_alive", note)
    metrics, settings = Metrics(CollectorRegistry()), Settings(bundle=("a",))  # type: ignore[arg-type]
    model.engine.start()
    registry = ModelRegistry(ModelLoader(settings, metrics), ModelCatalogue(), metrics)
    monkeypatch.setattr(ModelRegistry, "engines", [model.engine])
    watch = asyncio.create_task(watch_engines(registry, health, settings))

    async def decode() -> BaseException | None:
        ticket = model.engine.submit(model.tokenizer.encode("I love you.").ids, DecodingOptions())
        return await asyncio.to_thread(ticket.future.exception, 20)

    await until(True)
    runner.failing = True
    for _ in range(bootstrap._MOST_FAILURES):
        assert isinstance(await decode(), EngineError)
    await until(False)
    runner.failing = False
    assert await decode() is None
    await until(True)
    watch.cancel()
    await asyncio.to_thread(model.engine.shutdown, grace_seconds=5.0)
