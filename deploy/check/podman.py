"""podman, made to work where there is no systemd and no registry; builds and runs the service's image."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from deploy.check.tools import HERE, ToolError, find

ROOT = HERE.parent.parent
STAND_IN = "localhost/dragoman-base:cpu"
PACKAGES = "podman buildah runc catatonit debootstrap"
SETTINGS = HERE.parent / "image" / "podman"
"""For machines without systemd."""


class Podman:
    """Runs podman, with settings of its own where it needs some. Raises ToolError where it cannot be installed."""

    def __init__(self) -> None:
        self._program = find("podman", package=PACKAGES)
        self._environment = dict(os.environ)
        if not Path("/run/systemd/system").exists():
            self._environment["CONTAINERS_CONF"] = str(SETTINGS / "containers.conf")
            self._environment["CONTAINERS_STORAGE_CONF"] = str(SETTINGS / "storage.conf")

    def __call__(self, *arguments: str | Path) -> str:
        """The standard output of `podman ARGUMENTS`. Raises CalledProcessError with its error output."""
        done = self.try_to(*arguments)
        done.check_returncode()
        return done.stdout.strip()

    def try_to(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The same, whether it succeeds or not."""
        command = [self._program, *map(str, arguments)]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, cwd=ROOT)

    def base(self) -> str:
        """The base of the cpu image: the pinned one, or a stand-in where no registry can be reached."""
        pinned = re.findall(r"^ARG CPU_BASE=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[0]
        if self.try_to("image", "exists", pinned).returncode == 0 or self.try_to("pull", pinned).returncode == 0:
            return str(pinned)
        if self.try_to("image", "exists", STAND_IN).returncode:
            find("debootstrap", package="debootstrap")
            script = HERE.parent / "image" / "stand-in-base"
            done = subprocess.run([script], env=self._environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ToolError(f"podman has no base image: none can be pulled or made here: {done.stderr[-300:]}")
        return STAND_IN

    def build(self, tag: str, *, base: str, bundle: str | None = None) -> None:
        """The cpu target as `tag`; `bundle`, a folder in the build context, is baked in."""
        arguments = ["build", "--format", "docker", "--network", "host", "--target", "cpu", "--tag", tag]
        arguments += ["--build-arg", f"CPU_BASE={base}"]
        if bundle is not None:
            arguments += ["--build-arg", f"BUNDLE={bundle}"]
        done = self.try_to(*arguments, ".")
        if done.returncode:
            raise RuntimeError(f"the image does not build: {done.stdout[-2000:]}{done.stderr[-2000:]}")
