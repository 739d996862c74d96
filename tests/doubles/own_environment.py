"""Environments for programs that must not share ours: other clients, browsers' drivers. Kept under .cache/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def own_environment(repository: Path, name: str, package: str) -> Path:
    """The interpreter of an environment that holds `package`; the first use installs it, which needs an index."""
    environment = repository / ".cache" / name
    python, marker = environment / "bin" / "python", environment / ".installed"
    if not marker.exists() or marker.read_text() != package:
        # Where Python comes without ensurepip, our own pip installs into the environment from outside.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]
        subprocess.run([*install, package], check=True)
        marker.write_text(package)
    return python
