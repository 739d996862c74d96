"""How the checks come by their programs, and what they say where they cannot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy.check.__main__ import is_custom, objects_in
from deploy.check.tools import ToolError, find


def test_a_program_on_the_path_is_taken() -> None:
    """Nothing is installed for it."""
    assert Path(find("sh", package="no-such-package")).name == "sh"


def test_a_missing_program_is_named() -> None:
    """With what to do about it."""
    with pytest.raises(ToolError, match="no-such-program is not on the path; install it"):
        find("no-such-program")


def test_only_root_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody else is told the package, and apt-get is not run."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    with pytest.raises(ToolError, match=r"no-such-program .* only root can install Debian's some-package"):
        find("no-such-program", package="some-package")


@pytest.mark.parametrize(
    ("version", "custom"),
    [
        ("v1", False),
        ("apps/v1", False),
        ("networking.k8s.io/v1", False),
        ("gateway.networking.k8s.io/v1", True),
        ("keda.sh/v1alpha1", True),
        ("monitoring.coreos.com/v1", True),
    ],
)
def test_custom_resources_are_told_from_kubernetes_own(version: str, custom: bool) -> None:
    """Each goes to the schemas that know it."""
    (item,) = objects_in(f"apiVersion: {version}\nkind: X\n---\n")
    assert is_custom(item) is custom
