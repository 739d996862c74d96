"""The peers' environment and model: installed and converted once, kept under .cache/."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.system_process import REPOSITORY
from loadtests.tied import tied
from service.errors import CheckpointError, UnavailableError

CACHE = REPOSITORY / ".cache"
ENVIRONMENT = CACHE / "bench-peers"
TORCH = "torch==2.13.0"
REQUIREMENTS = (
    "ctranslate2==4.8.5",
    "transformers==5.23.0",
    "sentencepiece==0.2.3",
    "safetensors==0.8.0",
    # The same gRPC as ours, for the peers as servers.
    "grpcio==1.85.1",
    "protobuf==7.36.2",
    "googleapis-common-protos==1.76.0",
)
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def peers_python() -> Path:
    """The interpreter that has the peers; the first call installs them. Raises UnavailableError."""
    python, marker = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".installed"
    wanted = "\n".join((TORCH, *REQUIREMENTS))
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return python
    print(f"Installing {', '.join(REQUIREMENTS[:2])} and torch into {ENVIRONMENT.relative_to(REPOSITORY)}", flush=True)
    log = CACHE / "bench-peers.log"
    CACHE.mkdir(exist_ok=True)
    # Where Python comes without ensurepip, our own pip installs into the environment from outside.
    _run([sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT], log)
    install: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-input"]
    _run([*install, *shlex.split(os.environ.get("TORCH_FLAGS", "")), TORCH], log)
    _run([*install, *REQUIREMENTS], log)
    marker.write_text(wanted, encoding="utf-8")
    return python


def converted_model(python: Path, checkpoint: Path) -> Path:
    """The checkpoint in CTranslate2's format, fp32; its loader makes int8 of it. Raises CheckpointError."""
    weights = next((checkpoint / name for name in WEIGHTS if (checkpoint / name).is_file()), None)
    if weights is None or not (checkpoint / "config.json").is_file():
        raise CheckpointError(f"{checkpoint}: the peers need a Marian checkpoint in the Hugging Face layout")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    output = CACHE / "bench-models" / f"{checkpoint.resolve().name}-{digest}"
    if not (output / "model.bin").exists():
        print("Converting the checkpoint for CTranslate2", flush=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        converter: list[str | Path] = [
            "-m",
            "ctranslate2.converters.transformers",
            "--model",
            checkpoint,
            "--output_dir",
            output,
        ]
        _run([python, *converter, "--quantization", "float32", "--force"], CACHE / "bench-conversion.log")
    return output


def _run(command: Sequence[str | Path], log: Path) -> None:
    words = [str(word) for word in command]
    with log.open("a", encoding="utf-8") as output:
        code = subprocess.run(tied(words), stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        raise UnavailableError(f"`{' '.join(words[1:4])} ...` ended with exit code {code}; see {log}")
