"""The set of models that are served: loads, replaces, drains and frees them, and publishes those that serve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from service.bundle import Bundle, Manifest
from service.engine import Engine
from service.errors import BundleError, DragomanError
from service.logging import describe_failure, get_logger
from service.malloc import return_free_memory
from service.metrics import Metrics
from service.models.folders import Fingerprint, fingerprint
from service.models.loading import LoadedModel, ModelLoader
from service.translator import ModelCatalogue, ServedModel

_GRACE_SECONDS = 60.0
"""For what an engine still runs when no request waits for it any more: it is about to be cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """What is served out of a folder, and how the folder looked then."""

    fingerprint: Fingerprint
    loaded: LoadedModel


class ModelRegistry:
    """Keeps the catalogue in step with folders of bundles; used from one event loop.

    A new version serves only once it is warm and has passed its self-test; until then, and if it fails, nothing
    changes. The version before it drains: requests that hold it finish, then its memory is freed.
    """

    def __init__(self, loader: ModelLoader, catalogue: ModelCatalogue, metrics: Metrics) -> None:
        self._loader = loader
        self._catalogue = catalogue
        self._metrics = metrics
        for outcome in ("loaded", "refused"):
            metrics.model_loads.labels(outcome)  # there from the start, so that the first one counts as a rise
        self._wanted: list[Path] = []
        self._served: dict[Path, _Entry] = {}
        self._refused: dict[Path, Fingerprint] = {}
        self._draining: dict[asyncio.Task[None], Engine] = {}
        self._loading: asyncio.Task[LoadedModel] | None = None

    @property
    def engines(self) -> list[Engine]:
        """Engines of all models in memory, those that drain included."""
        return [*(entry.loaded.model.engine for entry in self._served.values()), *self._draining.values()]

    async def load(self, folder: Path) -> None:
        """Serves what lies in `folder`, in place of what it held before.

        Raises: BundleError, CheckpointError, ConfigError; everything is as it was then.
        """
        started, looks = time.monotonic(), fingerprint(folder)
        if folder not in self._wanted:
            self._wanted.append(folder)
        bundle = await asyncio.to_thread(Bundle.load, folder)
        before, same = self._served.get(folder), self._folder_of(bundle.manifest)
        if same == folder or (same is not None and same not in self._wanted):  # touched, or got another name
            self._served[folder] = replace(self._served.pop(same), fingerprint=looks)
        elif same is not None:
            raise BundleError(f"{folder}: model {bundle.manifest.model_id} of this version is served from {same}")
        else:
            loaded = await self._load_bundle(bundle)
            self._served[folder] = _Entry(fingerprint=looks, loaded=loaded)
            self._note_loaded(loaded.model, time.monotonic() - started)
        self._publish()
        if before is not None and same != folder:
            self._drain(before.loaded)

    async def reconcile(self, folders: Mapping[Path, Fingerprint]) -> None:
        """Serves exactly what lies in `folders`, in their order.

        What cannot be loaded is refused in one line of the log, and what was served out of its folder goes on. It is
        tried again when the folder changes, or when memory has come free.
        """
        self._wanted = list(folders)
        for folder, looks in folders.items():
            entry = self._served.get(folder)
            if self._refused.get(folder) != looks and (entry is None or entry.fingerprint != looks):
                await self._try_loading(folder, looks)
        self._refused = {folder: looks for folder, looks in self._refused.items() if folder in folders}
        gone = [self._served.pop(folder).loaded for folder in list(self._served) if folder not in folders]
        self._publish()
        for loaded in gone:
            self._drain(loaded)

    async def close(self) -> None:
        """Ends all engines at once; what they have not answered ends with UnavailableError."""
        draining = list(self._draining.values())  # forgotten as soon as their tasks are cancelled
        for task in self._draining:
            task.cancel()
        if self._loading is not None:
            await asyncio.wait([self._loading])
        engines = {*draining, *self.engines}
        await asyncio.gather(*(asyncio.to_thread(engine.shutdown, grace_seconds=0.0) for engine in engines))
        if self._loading is not None and self._loading.exception() is None:
            await asyncio.to_thread(self._loading.result().model.engine.shutdown, grace_seconds=0.0)

    async def wait_drained(self) -> None:
        """Returns when nothing drains any more."""
        while self._draining:
            await asyncio.wait(self._draining)

    async def _load_bundle(self, bundle: Bundle) -> LoadedModel:
        """Loads to the end even if the caller is cancelled, so that `close` finds the engine."""
        self._loading = asyncio.ensure_future(asyncio.to_thread(self._loader.load, bundle))
        try:
            return await asyncio.shield(self._loading)
        finally:
            if self._loading.done():
                self._loading = None

    async def _try_loading(self, folder: Path, looks: Fingerprint) -> None:
        try:
            await self.load(folder)
        except Exception as error:
            known = isinstance(error, DragomanError)
            reason = {"reason": str(error)} if known else describe_failure(error)
            get_logger().error("model_refused", folder=folder.name, **reason)
            self._metrics.model_loads.labels("refused").inc()
            self._refused[folder] = looks

    def _folder_of(self, manifest: Manifest) -> Path | None:
        """Where this very version is served from."""
        for folder, entry in self._served.items():
            model = entry.loaded.model
            if (model.id, model.version) == (manifest.model_id, manifest.version):
                return folder
        return None

    def _publish(self) -> None:
        """Models in the order of their folders; those about to go come last."""
        places = {folder: place for place, folder in enumerate(self._wanted)}
        folders = sorted(self._served, key=lambda folder: places.get(folder, len(places)))
        self._catalogue.publish([self._served[folder].loaded.model for folder in folders])
        self._metrics.models.labels("serving").set(len(folders))
        self._metrics.models.labels("draining").set(len(self._draining))

    def _note_loaded(self, model: ServedModel, seconds: float) -> None:
        self._metrics.model_loads.labels("loaded").inc()
        self._metrics.model_load_seconds.labels(model.id).set(seconds)
        get_logger().info("model_loaded", model=model.id, version=model.version, seconds=round(seconds, 3))

    def _drain(self, loaded: LoadedModel) -> None:
        """Sees to it that a model which is not published any more ends with its last request."""
        get_logger().info("model_draining", model=loaded.model.id, version=loaded.model.version)
        task = asyncio.create_task(self._unload_unused([loaded]))
        self._draining[task] = loaded.model.engine
        task.add_done_callback(self._drained)
        self._publish()

    async def _unload_unused(self, holder: list[LoadedModel]) -> None:
        """Takes the model out of `holder` at the end, as the thread that unloads it may keep that a little longer."""
        model = holder[0].model
        await self._catalogue.wait_unused(model)
        await asyncio.to_thread(_unload, self._loader, holder)
        get_logger().info("model_unloaded", model=model.id, version=model.version)
        holder.clear()

    def _drained(self, task: asyncio.Task[None]) -> None:
        """The last reference to the engine goes here; what was refused for want of memory may fit now."""
        del self._draining[task]
        self._refused.clear()
        self._publish()
        return_free_memory()


def _unload(loader: ModelLoader, holder: list[LoadedModel]) -> None:
    loader.unload(holder[0], grace_seconds=_GRACE_SECONDS)
