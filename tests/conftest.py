"""Fixtures every room's tests may use, and the rule on skips."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester", "tests.skip_policy"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of large test data (``data/`` and ``models/``); the test is skipped where there is none."""
    folder = os.environ.get("DRAGOMAN_TEST_DATA")
    if not folder:
        pytest.skip("DRAGOMAN_TEST_DATA is not set")
    return Path(folder)
