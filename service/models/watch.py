"""Looks at the folders of bundles again and again, and has the registry follow them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from service.config import Settings
from service.errors import ConfigError
from service.logging import get_logger
from service.models.folders import BundleFolders, Fingerprint
from service.models.registry import ModelRegistry


async def watch_bundles(
    registry: ModelRegistry, folders: BundleFolders, look: asyncio.Event, settings: Settings
) -> None:
    """Until it is cancelled: every `bundle_poll_seconds`, and at once when `look` is set.

    What a poll finds changed may still be on its way, as when files are copied one by one: it counts when the next poll
    finds the same. Whoever sets `look` says that all of it is there.
    """
    seen: dict[Path, Fingerprint] | None = None
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.bundle_poll_seconds or None):
                await look.wait()
        asked = look.is_set()
        look.clear()
        try:
            found = await asyncio.to_thread(folders.scan)
        except ConfigError as error:
            get_logger().error("bundles_unreadable", reason=str(error))
            continue
        if asked or found == seen:
            await registry.reconcile(found)
        seen = found
