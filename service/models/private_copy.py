"""A bundle in files of our own, so that what happens to its folder cannot reach a model that serves."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.bundle import MANIFEST_FILE, Bundle
from service.errors import BundleError
from service.logging import get_logger


@contextmanager
def private_copy(bundle: Bundle) -> Iterator[Bundle]:
    """Another bundle with the same content, checked again, to be opened in time: its files have no name afterwards.

    ONNX Runtime maps weights into memory. Whoever writes over their file would change a model in the midst of its
    work, or end the process. Where the temporary directory has no room the bundle itself is used, and the log says so.
    """
    with tempfile.TemporaryDirectory(prefix="dragoman-") as directory:
        try:
            for name in (*bundle.manifest.files, MANIFEST_FILE):
                shutil.copyfile(bundle.directory / name, Path(directory) / name)
        except OSError as error:
            get_logger().warning("bundle_not_copied", folder=bundle.directory.name, reason=error.strerror)
            shutil.rmtree(directory, ignore_errors=True)
            Path(directory).mkdir(exist_ok=True)
            yield bundle
            return
        copied = Bundle.load(directory)
        if copied.manifest != bundle.manifest:
            raise BundleError(f"{bundle.directory}: changed while it was read")
        yield copied
