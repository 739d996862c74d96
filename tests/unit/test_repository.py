"""What a clone holds: no machine's paths, no registry's address, nothing large, no leftovers."""

import re
import subprocess
from pathlib import Path

import pytest

LARGEST_FILE_BYTES = 60 * 1024 * 1024
# Spelled in pieces, so that this file passes its own test.
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:work|" + r"home|Users|opt/wheels|opt/pypi)" + r"(?:/|\b)(?!\w)")
REGISTRIES = re.compile(
    r"https?://[\w.-]*(?:" + r"pypi\.org|pythonhosted\.org|registry\.npmjs\.org|download\.pytorch\.org)"
)
OUTSIDE = re.compile(r"\.\./" + r"shared\b")
LINKS = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
# The one place that may look beside the clone for big test data.
MAY_LOOK_OUTSIDE = {".ci/run"}


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    """The files git tracks, or every file where this is not a git checkout (an sdist)."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("git does not know this folder")
    return [repository / name for name in listed.stdout.split("\0") if name and (repository / name).is_file()]


def texts(paths: list[Path]) -> list[tuple[Path, str]]:
    """Those of ``paths`` that are text, with their text."""
    found = []
    for path in paths:
        data = path.read_bytes()
        if b"\0" not in data[:8192] and len(data) < 4_000_000:
            found.append((path, data.decode("utf-8", errors="replace")))
    return found


def lines_that_match(pattern: re.Pattern[str], paths: list[Path], repository: Path) -> list[str]:
    """``file:line: text`` of each line of a text file that holds ``pattern``."""
    return [
        f"{path.relative_to(repository)}:{number}: {line.strip()[:120]}"
        for path, text in texts(paths)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_machine_path(tracked: list[Path], repository: Path) -> None:
    """A clone works anywhere: no tracked file names a folder of somebody's machine."""
    assert lines_that_match(MACHINE_PATHS, tracked, repository) == []


def test_no_file_names_a_package_registry(tracked: list[Path], repository: Path) -> None:
    """Where packages come from is the machine's business (pip's configuration), never the repository's."""
    assert lines_that_match(REGISTRIES, tracked, repository) == []


def test_no_file_reaches_outside_the_clone(tracked: list[Path], repository: Path) -> None:
    """Big test data is reached through DRAGOMAN_TEST_DATA only."""
    inside = [path for path in tracked if str(path.relative_to(repository)) not in MAY_LOOK_OUTSIDE]
    assert lines_that_match(OUTSIDE, inside, repository) == []


def test_no_tracked_file_is_huge(tracked: list[Path]) -> None:
    """The bundled model is the largest thing in a clone."""
    assert [path.name for path in tracked if path.stat().st_size > LARGEST_FILE_BYTES] == []


def test_no_pickle_is_tracked(tracked: list[Path]) -> None:
    """Models are stored as safetensors and ONNX: nothing in the repository runs code when it is loaded."""
    assert [path.name for path in tracked if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin"}] == []


def test_links_between_documents_lead_somewhere(tracked: list[Path], repository: Path) -> None:
    """A relative link in a Markdown file names a file or folder of the clone."""
    broken = [
        f"{path.relative_to(repository)}: {link}"
        for path, text in texts([path for path in tracked if path.suffix == ".md"])
        for link in LINKS.findall(text)
        if not (path.parent / link).exists()
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATHS, "--data /" + "work/x"),
        (MACHINE_PATHS, "cd /" + "home/somebody"),
        (OUTSIDE, "../" + "shared/data"),
        (REGISTRIES, "https://pypi" + ".org/simple"),
    ],
)
def test_the_patterns_find_what_they_look_for(pattern: re.Pattern[str], text: str) -> None:
    """The patterns above can fail."""
    assert pattern.search(text)
