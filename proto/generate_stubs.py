"""Writes the Python stubs of the wire contracts into dragoman/: `python proto/generate_stubs.py [--output DIR]`."""

from __future__ import annotations

import argparse
import importlib.resources
import sys
import sysconfig
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent
SOURCE = "dragoman/v1/translation.proto"
GOOGLE_SOURCE = "google/cloud/translation/v3/translation_service.proto"
GOOGLE_OUTPUT = "dragoman/google_v3"
# Google's own client holds the same names: ours live in a module, and in a pool of descriptors, of their own.
GOOGLE_REPLACEMENTS = {
    "from google.cloud.translation.v3 import": "from dragoman.google_v3 import",
    "'google.cloud.translation.v3.translation_service_pb2'": "'dragoman.google_v3.translation_service_pb2'",
    "_descriptor_pool.Default()": "_descriptor_pool.DescriptorPool()",
}


def generate(output: Path) -> int:
    """Writes the stubs (.py and .pyi) of both contracts under `output`/dragoman; protoc's exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        code = _compile(output, SOURCE) or _compile(Path(scratch), GOOGLE_SOURCE)
        if code == 0:
            _move_google_stubs(Path(scratch) / Path(GOOGLE_SOURCE).parent, output / GOOGLE_OUTPUT)
    return code


def _compile(output: Path, source: str) -> int:
    well_known_types = importlib.resources.files("grpc_tools") / "_proto"
    scripts = Path(sysconfig.get_path("scripts"))
    return int(
        protoc.main(
            [
                "protoc",
                f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
                f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
                f"--proto_path={PROTO_ROOT}",
                f"--proto_path={well_known_types}",
                f"--python_out={output}",
                f"--grpc_python_out={output}",
                f"--mypy_out=quiet:{output}",
                f"--mypy_grpc_out=quiet:{output}",
                source,
            ]
        )
    )


def _move_google_stubs(compiled: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted(compiled.iterdir()):
        text = path.read_text(encoding="utf-8")
        for old, new in GOOGLE_REPLACEMENTS.items():
            text = text.replace(old, new)
        (output / path.name).write_text(text, encoding="utf-8")


def main() -> int:
    """Parses the command line and generates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PROTO_ROOT.parent, help="folder to write dragoman/ into")
    return generate(parser.parse_args().output)


if __name__ == "__main__":
    sys.exit(main())
