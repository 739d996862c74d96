"""Writes the Python stubs of the wire contract into dragoman/v1: `python proto/generate_stubs.py [--output DIR]`."""

from __future__ import annotations

import argparse
import importlib.resources
import sys
import sysconfig
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent
SOURCE = "dragoman/v1/translation.proto"


def generate(output: Path) -> int:
    """Writes translation_pb2[_grpc].py and their .pyi under `output`/dragoman/v1; returns protoc's exit code."""
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
                SOURCE,
            ]
        )
    )


def main() -> int:
    """Parses the command line and generates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PROTO_ROOT.parent, help="folder to write dragoman/v1 into")
    return generate(parser.parse_args().output)


if __name__ == "__main__":
    sys.exit(main())
