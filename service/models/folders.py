"""Which folders hold bundles now, and whether what lies in them has changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from service.bundle import MANIFEST_FILE
from service.errors import ConfigError

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change (ns) of every file of a folder; empty where there is no readable folder."""


class BundleFolders:
    """Folders named one by one, which are always meant, then the sub-folders of a directory that hold a manifest."""

    def __init__(self, bundles: Sequence[Path], directory: Path | None) -> None:
        self._bundles = tuple(bundles)
        self._directory = directory

    def scan(self) -> dict[Path, Fingerprint]:
        """All folders in their order, the directory's by name. Raises ConfigError if the directory cannot be read."""
        return {folder: fingerprint(folder) for folder in (*self._bundles, *self._sub_folders())}

    def _sub_folders(self) -> list[Path]:
        if self._directory is None:
            return []
        try:
            folders = sorted(folder for folder in self._directory.iterdir() if not folder.name.startswith("."))
            return [folder for folder in folders if (folder / MANIFEST_FILE).is_file()]
        except OSError as error:
            raise ConfigError(f"--bundle-directory: {self._directory}: {error.strerror}") from None


def fingerprint(folder: Path) -> Fingerprint:
    """Links are followed, so that pointing one to another bundle counts as a change."""
    try:
        found = [(path.name, path.stat()) for path in folder.iterdir()]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found))
