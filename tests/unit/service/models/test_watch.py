"""What the registry is told of the folders, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.config import Settings
from service.errors import ConfigError
from service.models.folders import BundleFolders, Fingerprint, fingerprint
from service.models.registry import ModelRegistry
from service.models.watch import watch_bundles
from tests.doubles.echo_bundle import write_echo_bundle


class RecordingRegistry(ModelRegistry):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[Path, Fingerprint]] = []
        self.heard = asyncio.Event()

    async def reconcile(self, folders: Mapping[Path, Fingerprint]) -> None:
        """Keep the folders."""
        self.told.append(dict(folders))
        self.heard.set()

    async def next(self) -> dict[Path, Fingerprint]:
        """What it is told next."""
        self.heard.clear()
        await asyncio.wait_for(self.heard.wait(), 20)
        return self.told[-1]


class ChangingFolders(BundleFolders):
    """Shows a given state after the other, the last one for ever."""

    def __init__(self, *states: dict[Path, Fingerprint]) -> None:
        self.states = list(states)

    def scan(self) -> dict[Path, Fingerprint]:
        """The next state."""
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


def look(size: int) -> dict[Path, Fingerprint]:
    """A folder with a file of this size."""
    return {Path("m"): (("manifest.json", 1, size, 0),)}


async def test_a_poll_waits_until_nothing_changes_any_more() -> None:
    """Files that are copied one by one are not taken for a bundle before the last has come."""
    registry = RecordingRegistry()
    folders = ChangingFolders(look(1), look(2), look(3), look(3))
    settings = Settings(bundle=(Path("m"),), bundle_poll_seconds=0.001)
    watch = asyncio.create_task(watch_bundles(registry, folders, asyncio.Event(), settings))
    assert await registry.next() == look(3)
    assert registry.told[0] == look(3)
    watch.cancel()


async def test_without_polling_they_are_looked_at_when_asked() -> None:
    """And at once, as SIGHUP does."""
    registry, asked = RecordingRegistry(), asyncio.Event()
    folders = ChangingFolders(look(1), look(2))
    settings = Settings(bundle=(Path("m"),), bundle_poll_seconds=0)
    watch = asyncio.create_task(watch_bundles(registry, folders, asked, settings))
    for size in (1, 2):
        asked.set()
        assert await registry.next() == look(size)
    watch.cancel()


async def test_a_directory_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    """As when its volume is away for a moment; the models go on, and it is looked at again."""
    registry, asked = RecordingRegistry(), asyncio.Event()
    folders = BundleFolders((), tmp_path / "away")
    settings = Settings(bundle=(Path("m"),))
    watch = asyncio.create_task(watch_bundles(registry, folders, asked, settings))
    asked.set()
    while asked.is_set():
        await asyncio.sleep(0.002)
    write_echo_bundle(tmp_path / "away" / "m")
    while not registry.told:
        asked.set()
        await asyncio.sleep(0.002)
    assert all(list(told) == [tmp_path / "away" / "m"] for told in registry.told)
    watch.cancel()


def test_bundles_are_the_sub_folders_with_a_manifest_by_name(tmp_path: Path) -> None:
    """After those that were named one by one; hidden folders, such as those of mounted volumes, are none."""
    for name in ("b", "a", ".hidden"):
        write_echo_bundle(tmp_path / "all" / name)
    (tmp_path / "all" / "empty").mkdir()
    (tmp_path / "all" / "file").write_text("")
    found = BundleFolders((tmp_path / "z",), tmp_path / "all").scan()
    assert list(found) == [tmp_path / "z", tmp_path / "all" / "a", tmp_path / "all" / "b"]
    assert found[tmp_path / "z"] == ()
    with pytest.raises(ConfigError, match=r"bundle-directory: .*nowhere"):
        BundleFolders((), tmp_path / "nowhere").scan()


def test_a_changed_folder_looks_different(tmp_path: Path) -> None:
    """By content, by a file more, by a link that leads elsewhere; a moved one does not."""
    write_echo_bundle(tmp_path / "a", mark="1")
    write_echo_bundle(tmp_path / "b", mark="1")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    looks = [fingerprint(link)]
    link.unlink()
    link.symlink_to(tmp_path / "b")
    looks.append(fingerprint(link))
    (tmp_path / "b" / "more").write_text("")
    looks.append(fingerprint(link))
    write_echo_bundle(tmp_path / "b", mark="2")
    looks.append(fingerprint(link))
    assert len(set(looks)) == 4
    (tmp_path / "b").rename(tmp_path / "c")
    assert fingerprint(tmp_path / "c") == looks[-1]
