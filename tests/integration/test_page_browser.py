"""The page in a real headless Chromium, driven from an environment and a process of its own."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.doubles.own_environment import own_environment
from tests.integration.test_page import page_server

PROGRAM = Path(__file__).with_name("page_browser_program.py")
PACKAGE = "playwright==1.65.2"


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


@pytest.mark.full
async def test_a_person_uses_the_page(chromium: str, repository: Path, tmp_path: Path) -> None:
    """By keyboard, on a desktop and on a phone, light and dark: labels, contrast, answers, errors; no complaint of the
    browser's, whose policy forbids all but the page's own files."""
    python = own_environment(repository, "page-browser", PACKAGE)
    async with page_server() as page:
        page.edge.metrics.row_slots.labels("echo").set(8)
        command = [str(python), str(PROGRAM), f"http://127.0.0.1:{page.port}/", chromium, str(tmp_path)]
        result = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=200, check=False
        )
    assert (result.returncode, result.stdout.strip()) == (0, "works"), result.stderr
    assert {picture.name for picture in tmp_path.iterdir()} == {"desktop.png", "phone.png", "dark.png"}
