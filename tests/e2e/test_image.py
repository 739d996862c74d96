"""The cpu image as it is deployed: built, run read-only by a user without rights, called, scraped and drained."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.check.podman import Podman
from deploy.check.tools import ToolError
from service.client import TranslationClient

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

IMAGE, BAKED = "localhost/dragoman:test", "localhost/dragoman:test-baked"
MEGABYTES = 400
LETTER = "I love you. We see the book.\n\n  The child can read it all."
LOCKED_DOWN = ("--read-only", "--tmpfs", "/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
SERVING = re.compile(r"SERVING grpc 127\.0\.0\.1:(\d+) metrics (\S+) health (127\.0\.0\.1:\d+)")


@pytest.fixture(scope="module")
def podman() -> Podman:
    """podman with the image built; the test is skipped where podman cannot be installed."""
    try:
        podman = Podman()
        base = podman.base()
    except ToolError as error:
        pytest.skip(str(error))
    podman.build(IMAGE, base=base)
    return podman


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that every user may read."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


class Container:
    """A running container of the image on free ports of this machine."""

    def __init__(self, podman: Podman, *options: str | Path, image: str = IMAGE) -> None:
        arguments = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--health-port", "0"]
        self.podman = podman
        self.id = podman("run", "--detach", "--network", "host", *LOCKED_DOWN, *options, image, *arguments)
        while (serving := SERVING.search(self.log())) is None:
            if podman("inspect", "--format", "{{.State.Running}}", self.id) != "true":
                pytest.fail(self.log())
        self.address = f"127.0.0.1:{serving[1]}"
        self.metrics_url, self.health_address = serving[2], serving[3]

    def log(self) -> str:
        """Standard output and error so far."""
        done = self.podman.try_to("logs", self.id)
        return done.stdout + done.stderr


@pytest.fixture
def container(podman: Podman, bundle: Path) -> Iterator[Container]:
    """A container with the bundle mounted, removed if the test has not ended it."""
    running = Container(podman, "--volume", f"{bundle}:/bundle:ro")
    yield running
    podman("rm", "--force", running.id)


def test_it_translates_is_scraped_and_drains(podman: Podman, container: Container) -> None:
    """As user 10001 on a root that cannot be written; what was accepted before SIGTERM is answered; exit code 0."""
    assert podman("exec", container.id, "id", "-u") == "10001"
    assert podman.try_to("exec", container.id, "touch", "/bundle/x").returncode != 0
    assert podman.try_to("exec", container.id, "touch", "/opt/dragoman/x").returncode != 0
    podman("exec", container.id, "python", "-m", "service.health_probe", container.health_address)
    with TranslationClient(container.address) as client:
        assert client.translate([LETTER], source="en", target="fr").translations[0].text
        with urllib.request.urlopen(container.metrics_url, timeout=10) as page:
            text = page.read().decode()
        assert 'dragoman_requests_total{code="OK",method="Translate",model="tiny"} 1.0' in text
        assert "dragoman_memory_limit_bytes" in text
        stream = client.stream(LETTER * 40, source="en", target="de")
        first = next(stream)
        podman("kill", "--signal", "TERM", container.id)
        responses = [first, *stream]
    assert responses[-1].WhichOneof("event") == "end"
    assert podman("wait", container.id) == "0"
    assert '"drained"' in container.log()


def test_it_is_small_and_says_what_it_is(podman: Podman) -> None:
    """Under 400 MB, by user 10001, with labels and a health check on the health port."""
    (found,) = json.loads(podman("image", "inspect", IMAGE))
    assert found["Size"] < MEGABYTES * 1e6
    assert found["User"] == "10001:10001"
    assert found["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert found["Labels"]["org.opencontainers.image.version"]
    assert "127.0.0.1:50052" in json.dumps(found["Healthcheck"])


def test_it_lists_what_it_holds_and_holds_no_tools(podman: Podman) -> None:
    """The SBOM names ONNX Runtime and gRPC; there is no compiler, no torch, no exporter, no pip in our environment."""
    bill = json.loads(podman("run", "--rm", "--entrypoint", "cat", IMAGE, "/opt/dragoman/sbom.cdx.json"))
    names = {component["name"] for component in bill["components"]}
    assert {"dragoman", "onnxruntime", "grpcio"} <= names
    assert names.isdisjoint({"torch", "transformers", "pip"})
    script = (
        "command -v gcc || command -v cc || command -v make || python -c 'import torch' || python -c 'import exporter'"
    )
    assert podman.try_to("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", script).returncode != 0


def test_a_bundle_can_be_baked_in(podman: Podman, bundle: Path, repository: Path) -> None:
    """Named by the build argument BUNDLE, it serves without a volume."""
    inside = repository / "bundles" / "test-image"
    shutil.copytree(bundle, inside, dirs_exist_ok=True)
    try:
        podman.build(BAKED, base=podman.base(), bundle="bundles/test-image")
    finally:
        shutil.rmtree(inside)
    container = Container(podman, image=BAKED)
    try:
        with TranslationClient(container.address) as client:
            assert client.list_models()[0].id == "tiny"
    finally:
        podman("rm", "--force", container.id)


def test_without_a_bundle_it_says_so_in_one_line(podman: Podman) -> None:
    """The image as it comes has none: it ends at once with exit code 2 and names the setting."""
    done = podman.try_to("run", "--rm", *LOCKED_DOWN, IMAGE)
    assert done.returncode == 2
    assert "bundle" in done.stderr.splitlines()[-1]
