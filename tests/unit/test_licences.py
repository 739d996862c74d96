"""Everything this project is built, tested and run with has a licence that we accept, by its own metadata."""

import re
from importlib.metadata import Distribution, distributions

import pytest

# SPDX ids of licences that ask for no more than credit, or for the sources of their own files (MPL-2.0).
ACCEPTED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "LLVM-exception",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    }
)
# What packages without an SPDX expression say of themselves: a classifier's last part, or the old free text.
KNOWN_AS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# Those that say nothing, looked up at their source.
LOOKED_UP = {"promql-parser": "MIT"}
# CUDA's libraries come with the builds of torch and ONNX Runtime that use them, under NVIDIA's own terms; we ship none.
NOT_SHIPPED = re.compile(r"nvidia-|cuda-|triton$")
OPERATORS = frozenset({"AND", "OR", "WITH"})


def licences_of(distribution: Distribution) -> set[str]:
    """SPDX ids that a package names, all parts of an expression; what is not understood stays as it is written."""
    metadata = distribution.metadata
    for expression in metadata.get_all("License-Expression", []):
        return symbols_of(expression)
    classifiers = [value.rpartition(" :: ")[2] for value in metadata.get_all("Classifier", []) if "License ::" in value]
    named = [name for name in classifiers if name not in ("OSI Approved", "DFSG approved")]
    text = "".join(metadata.get_all("License", [])).strip()
    if not named and text:
        named = [text.splitlines()[0]]
    if not named and metadata["Name"].lower() in LOOKED_UP:
        named = [LOOKED_UP[metadata["Name"].lower()]]
    return {symbol for name in named for symbol in ({KNOWN_AS[name]} if name in KNOWN_AS else symbols_of(name))}


def symbols_of(expression: str) -> set[str]:
    """The licences and exceptions of an SPDX expression."""
    return set(re.split(r"[\s()]+", expression)) - OPERATORS - {""}


def complaint(distribution: Distribution) -> str | None:
    """What is wrong with a package's licence; None if nothing is."""
    licences = licences_of(distribution)
    name = distribution.metadata["Name"]
    if not licences:
        return f"{name}: names no licence"
    refused = sorted(licences - ACCEPTED)
    return f"{name}: {', '.join(refused)[:100]}" if refused else None


def test_every_installed_package_has_a_licence_we_accept() -> None:
    """A new dependency whose licence is missing or not on the list fails here, with its name."""
    installed = [each for each in distributions() if not NOT_SHIPPED.match(each.metadata["Name"].lower())]
    assert [found for each in installed if (found := complaint(each)) is not None] == []
    assert len(installed) > 50


class _Package(Distribution):
    """A package as far as its metadata goes."""

    def __init__(self, metadata: str) -> None:
        self._text = f"Name: sample\nVersion: 1\n{metadata}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    ("metadata", "accepted"),
    [
        ("License-Expression: MIT", True),
        ("License-Expression: (Apache-2.0 WITH LLVM-exception) OR MIT", True),
        ("License-Expression: MIT AND GPL-3.0-or-later", False),
        ("Classifier: License :: OSI Approved :: BSD License", True),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", False),
        ("Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Other/Proprietary License", False),
        ("License: Apache License 2.0", True),
        ("License: All rights reserved", False),
        ("Summary: says nothing", False),
    ],
)
def test_licences_are_told_apart(metadata: str, accepted: bool) -> None:
    """By expression, by classifier, by free text; one bad part is enough."""
    assert (complaint(_Package(metadata)) is None) is accepted
