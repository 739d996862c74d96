"""Models come, change and go while requests run: what is new serves when it is good, what is old ends unharmed."""

from __future__ import annotations

import asyncio
import gc
import math
import shutil
import threading
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from service import config
from service.bundle import Bundle
from service.config import Settings
from service.engine import Batch, ModelRunner, StepOutput
from service.errors import BundleError, NotFoundError, UnavailableError
from service.metrics import Metrics
from service.models.folders import BundleFolders
from service.models.loading import ModelLoader
from service.models.registry import ModelRegistry
from service.runtime import RuntimeSettings, memory_plan
from service.translator import ModelCatalogue, TranslationRequest, TranslationResult, Translator, TranslatorLimits
from tests.doubles.echo_bundle import write_echo_bundle
from tests.doubles.echo_model import EchoRunner, tiny_tokenizer


class BrokenRunner(EchoRunner):
    """Its numbers are none."""

    def decode_step(self, batch: Batch) -> StepOutput:
        """A step whose best tokens have no probability."""
        output = super().decode_step(batch)
        output.top_log_probs.fill(math.nan)
        return output


class DependentRunner(EchoRunner):
    """What it says depends on how many rows run, as with a scale that spans the batch."""

    def decode_step(self, batch: Batch) -> StepOutput:
        """In company the best token is another one."""
        output = super().decode_step(batch)
        if len(batch.last_tokens) > 1:
            output.top_ids[:, 0] = 7
        return output


class Platform:
    """A registry over folders of echo bundles, and the translator that sees what it publishes."""

    def __init__(self, root: Path, *, memory_limit_mib: int = 0) -> None:
        self.root = root
        self.metrics = Metrics(CollectorRegistry())
        self.catalogue = ModelCatalogue()
        self.translator = Translator(self.catalogue, TranslatorLimits())
        settings = Settings(
            bundle_directory=root, workers=1, row_slots=8, memory_limit_mib=memory_limit_mib, cache_mib=0
        )
        self.folders = BundleFolders((), root)
        self.runners: list[EchoRunner] = []
        self.made: type[EchoRunner] = EchoRunner
        self.loading = threading.Event()
        self.may_load = threading.Event()
        self.may_load.set()
        loader = ModelLoader(settings, self.metrics, runners=self._make)
        self.registry = ModelRegistry(loader, self.catalogue, self.metrics)

    def _make(self, bundle: Bundle, settings: RuntimeSettings) -> list[ModelRunner]:
        self.loading.set()
        self.may_load.wait(30)
        self.runners.append(self.made(tiny_tokenizer(), row_slots=settings.row_slots))
        return [self.runners[-1]]

    def write(self, name: str, *, model_id: str = "echo", mark: str = "", target: str = "de") -> str:
        """A bundle in a folder of this name; its version."""
        return write_echo_bundle(self.root / name, model_id=model_id, pairs=[("en", target)], mark=mark)

    async def reconcile(self) -> None:
        """What a poll does."""
        await self.registry.reconcile(self.folders.scan())

    async def translate(self, target: str = "de") -> TranslationResult:
        """One sentence by whichever model serves it."""
        asked = TranslationRequest(contents=("I love you.",), source_language="en", target_language=target)
        return await self.translator.translate(asked, deadline=time.monotonic() + 30)

    @property
    def versions(self) -> list[str]:
        """Of all models that serve, in their order."""
        return [model.version for model in self.catalogue.models]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of the metrics page; 0 if there is none."""
        return self.metrics.registry.get_sample_value(f"dragoman_{name}", labels) or 0.0


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    """A registry over an empty directory."""
    made = Platform(tmp_path)
    yield made
    made.may_load.set()
    for runner in made.runners:
        runner.gate.set()
    await made.registry.close()


async def until(event: threading.Event) -> None:
    """Waits off the loop."""
    assert await asyncio.to_thread(event.wait, 20)


async def test_a_new_version_serves_while_the_old_one_finishes_what_runs(platform: Platform) -> None:
    """The old engine ends with its last request, and its memory is no longer planned for."""
    first = platform.write("m", mark="1")
    await platform.reconcile()
    planned = platform.metric("planned_memory_bytes")
    old = platform.runners[0]
    old.gate.clear()
    running = asyncio.create_task(platform.translate())
    while not platform.registry.engines[0].running:
        await asyncio.sleep(0.002)
    second = platform.write("m", mark="2")
    await platform.reconcile()
    assert platform.versions == [second]
    assert (await platform.translate()).model_version == second
    assert len(platform.registry.engines) == 2
    assert platform.metric("models", state="draining") == 1
    assert platform.metric("planned_memory_bytes") == 2 * planned
    old.gate.set()
    assert (await running).model_version == first
    await platform.registry.wait_drained()
    assert len(platform.registry.engines) == 1
    assert platform.metric("models", state="draining") == 0
    assert platform.metric("planned_memory_bytes") == planned
    assert platform.metric("row_slots", model="echo") == 8
    assert platform.metric("row_slots_used", model="echo", worker="0") == 0


async def test_the_memory_of_an_old_version_goes_at_once(platform: Platform) -> None:
    """Nothing keeps the runner once the last request has ended: not even for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        platform.write("m", mark="1")
        await platform.reconcile()
        await platform.translate()
        gone = weakref.ref(platform.runners.pop())
        platform.write("m", mark="2")
        await platform.reconcile()
        await platform.registry.wait_drained()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("fault", ["truncated", "manifest", "runner", "company"])
async def test_a_broken_version_changes_nothing(platform: Platform, fault: str) -> None:
    """One line in the log names the folder and the reason, a metric counts it, and the old version goes on."""
    first = platform.write("m", mark="1")
    await platform.reconcile()
    engines = platform.registry.engines
    platform.write("m", mark="22")
    if fault == "truncated":
        (platform.root / "m" / "decoder.onnx").write_bytes(b"2")
    elif fault == "manifest":
        (platform.root / "m" / "manifest.json").write_text("{")
    else:
        platform.made = BrokenRunner if fault == "runner" else DependentRunner
    with capture_logs() as logs:
        await platform.reconcile()
        await platform.reconcile()
    refused = [line for line in logs if line["event"] == "model_refused"]
    assert [line["folder"] for line in refused] == ["m"]
    assert refused[0]["reason"]
    assert "\n" not in refused[0]["reason"]
    assert platform.metric("model_loads_total", outcome="refused") == 1
    assert platform.versions == [first]
    assert platform.registry.engines == engines
    assert (await platform.translate()).model_version == first
    platform.made = EchoRunner
    mended = platform.write("m", mark="3")
    await platform.reconcile()
    assert platform.versions == [mended]


def test_a_large_model_gets_threads_for_a_lone_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model by its own size, and memory is planned for what it gets."""
    asked: list[int] = []

    def make(_: Bundle, settings: RuntimeSettings) -> list[ModelRunner]:
        asked.append(settings.lone_threads)
        return [EchoRunner(tiny_tokenizer(), row_slots=8)]

    write_echo_bundle(tmp_path / "m")
    bundle = Bundle.load(tmp_path / "m")
    size = sum(entry.bytes for entry in bundle.manifest.files.values())
    loader = ModelLoader(Settings(bundle=(tmp_path / "m",), workers=2), Metrics(CollectorRegistry()), runners=make)
    weights = []
    for least in (size, size + 1):
        monkeypatch.setattr(config, "LEAST_LONE_BYTES", least)
        loaded = loader.load(bundle)
        loader.unload(loaded, grace_seconds=1.0)
        weights.append(loaded.plan.weights)
    assert asked == [2, 1]
    assert weights == [2 * size, size]


async def test_both_versions_must_fit_the_budget(tmp_path: Path) -> None:
    """A reload that does not fit is refused in one line, the old version stays, and it fits once memory is free."""
    settings = RuntimeSettings(workers=1, row_slots=8)
    write_echo_bundle(tmp_path / "m")
    plan = memory_plan(Bundle.load(tmp_path / "m"), settings).total
    platform = Platform(tmp_path, memory_limit_mib=math.ceil(2.5 * plan / 2**20))
    platform.write("m", mark="1")
    platform.write("n", model_id="other", target="fr")
    await platform.reconcile()
    served = platform.versions
    new = platform.write("m", mark="2")
    with capture_logs() as logs:
        await platform.reconcile()
        await platform.reconcile()
    (refused,) = [line for line in logs if line["event"] == "model_refused"]
    assert "model echo plans for" in refused["reason"]
    assert "the limit is" in refused["reason"]
    assert platform.versions == served
    assert (await platform.translate()).model_version == served[0]
    shutil.rmtree(platform.root / "n")
    await platform.reconcile()
    await platform.registry.wait_drained()
    await platform.reconcile()
    assert platform.versions == [new]
    await platform.registry.close()


async def test_a_folder_that_goes_takes_its_model_but_no_call(platform: Platform) -> None:
    """A call that runs is answered; the next one finds no model."""
    platform.write("m")
    await platform.reconcile()
    platform.runners[0].gate.clear()
    running = asyncio.create_task(platform.translate())
    while not platform.registry.engines[0].running:
        await asyncio.sleep(0.002)
    shutil.rmtree(platform.root / "m")
    await platform.reconcile()
    with pytest.raises(NotFoundError):
        await platform.translate()
    platform.runners[0].gate.set()
    assert (await running).translations[0].text == "I love you."
    await platform.registry.wait_drained()
    assert platform.registry.engines == []


async def test_a_version_may_come_back_while_it_drains(platform: Platform) -> None:
    """It is loaded once more, and what the old engine leaves behind takes nothing of the new one's with it."""
    version = platform.write("m")
    await platform.reconcile()
    route = platform.catalogue.route(model_id="", version="", source="en", target="de", allow_pivot=True)
    with platform.catalogue.holding(route):
        shutil.rmtree(platform.root / "m")
        await platform.reconcile()
        platform.write("m")
        await platform.reconcile()
        assert platform.versions == [version]
        assert len(platform.registry.engines) == 2
    await platform.registry.wait_drained()
    assert (await platform.translate()).model_version == version
    info = {"model": "echo", "version": version, "precision": "fp32", "provider": "CPUExecutionProvider"}
    assert platform.metric("model_info", **info) == 1
    assert platform.metric("row_slots", model="echo") == 8


async def test_a_folder_may_get_another_name(platform: Platform) -> None:
    """The model is not loaded again, whether the folder was moved, or copied and removed, or only touched."""
    version = platform.write("a")
    await platform.reconcile()
    (platform.root / "a").rename(platform.root / "b")
    await platform.reconcile()
    shutil.copytree(platform.root / "b", platform.root / "c", copy_function=shutil.copyfile)
    shutil.rmtree(platform.root / "b")
    await platform.reconcile()
    (platform.root / "c" / "manifest.json").touch()
    await platform.reconcile()
    assert platform.versions == [version]
    assert len(platform.runners) == 1
    assert platform.metric("models", state="draining") == 0


async def test_a_folder_that_takes_the_place_of_another_is_its_model_now(platform: Platform) -> None:
    """`rm -r a; mv b a`, between two looks: the model of b goes on, that of a drains."""
    platform.write("a", mark="1")
    second = platform.write("b", mark="2")
    await platform.reconcile()
    shutil.rmtree(platform.root / "a")
    (platform.root / "b").rename(platform.root / "a")
    await platform.reconcile()
    await platform.registry.wait_drained()
    assert platform.versions == [second]
    assert len(platform.runners) == 2


async def test_versions_stand_side_by_side_in_the_order_of_their_folders(platform: Platform) -> None:
    """The first folder's is the default, whichever came first; the same version twice is refused by name."""
    second = platform.write("m-2", mark="2")
    await platform.reconcile()
    first = platform.write("m-1", mark="1")
    await platform.reconcile()
    assert platform.versions == [first, second]
    assert (await platform.translate()).model_version == first
    write_echo_bundle(platform.root / "m-3", mark="2")
    with pytest.raises(BundleError, match=r"is served from .*m-2"):
        await platform.registry.load(platform.root / "m-3")
    assert platform.versions == [first, second]


async def test_closing_waits_for_a_load_under_way(platform: Platform) -> None:
    """Its engine is ended too, although whoever asked for it was cancelled."""
    platform.write("m")
    platform.may_load.clear()
    loading = asyncio.create_task(platform.reconcile())
    await until(platform.loading)
    loading.cancel()
    await asyncio.wait([loading])
    closing = asyncio.create_task(platform.registry.close())
    await asyncio.sleep(0)
    platform.may_load.set()
    await closing
    (runner,) = platform.runners
    steps = runner.steps
    assert steps > 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]


async def test_an_engine_that_drains_is_still_watched(platform: Platform) -> None:
    """The watchdog sees it, as a call may hang in it."""
    platform.write("m", mark="1")
    await platform.reconcile()
    route = platform.catalogue.route(model_id="", version="", source="en", target="de", allow_pivot=True)
    with platform.catalogue.holding(route):
        (engine,) = platform.registry.engines
        platform.write("m", mark="2")
        await platform.reconcile()
        assert engine in platform.registry.engines


async def test_the_end_reaches_an_engine_that_drains_while_another_model_loads(platform: Platform) -> None:
    """What it still runs is answered, and not left to hang."""
    platform.write("m", mark="1")
    await platform.reconcile()
    platform.runners[0].gate.clear()
    running = asyncio.create_task(platform.translate())
    while not platform.registry.engines[0].running:
        await asyncio.sleep(0.002)
    platform.write("m", mark="2")
    await platform.reconcile()
    platform.may_load.clear()
    platform.loading.clear()
    platform.write("n", model_id="other", target="fr")
    loading = asyncio.create_task(platform.reconcile())
    await until(platform.loading)
    closing = asyncio.create_task(platform.registry.close())
    await asyncio.sleep(0.05)
    platform.may_load.set()
    await closing
    with pytest.raises(UnavailableError):
        await running
    platform.runners[0].gate.set()
    loading.cancel()
    await asyncio.wait([loading])
