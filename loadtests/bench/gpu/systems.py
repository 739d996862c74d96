"""Starts what is measured: our engine in both modes, the peers, and the small programs that have a card alone."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from loadtests.bench.cases import OURS, TRANSFORMERS
from loadtests.bench.gpu.cases import CTRANSLATE2, DETERMINISTIC
from loadtests.bench.peers import CACHE, converted_model, peers_python
from loadtests.bench.system_process import REPOSITORY, SystemProcess
from loadtests.tied import tied
from service.errors import CheckpointError, UnavailableError

MODES = {OURS: "fast", DETERMINISTIC: "deterministic"}
_MODULE = "loadtests.bench.gpu"
_LOGS = CACHE / "bench-logs"
Command = list[str | Path]


def python_of_peers(arguments: argparse.Namespace) -> Path:
    """The interpreter that has torch and transformers: the one that was named, else an environment made for them."""
    named: Path | None = arguments.peers_python
    return named if named is not None else peers_python()


def device_options(arguments: argparse.Namespace) -> list[str]:
    """The device as our own programs want it."""
    return ["--provider", arguments.provider, "--device-id", str(arguments.device_id)]


def torch_device(arguments: argparse.Namespace) -> str:
    """The device as torch calls it."""
    return f"cuda:{arguments.device_id}" if arguments.provider == "cuda" else "cpu"


def commands_of(arguments: argparse.Namespace) -> tuple[dict[str, Command], dict[str, str]]:
    """The command of each system, and why others are left out."""
    given = ["--bundle", arguments.bundle, "--encode-tokens", str(arguments.encode_tokens), *device_options(arguments)]
    commands: dict[str, Command] = {
        name: [sys.executable, "-m", f"{_MODULE}.ours", *given, "--mode", mode] for name, mode in MODES.items()
    }
    if arguments.checkpoint is None:
        return commands, dict.fromkeys((TRANSFORMERS, CTRANSLATE2), "no --checkpoint was given")
    left_out: dict[str, str] = {}
    try:
        python = python_of_peers(arguments)
    except UnavailableError as error:
        return commands, dict.fromkeys((TRANSFORMERS, CTRANSLATE2), str(error))
    peer: Command = [python, "-m", f"{_MODULE}.transformers_peer", "--checkpoint", arguments.checkpoint]
    commands[TRANSFORMERS] = [*peer, "--device", torch_device(arguments)]
    if arguments.provider == "cpu":
        left_out[CTRANSLATE2] = "it is compared in fp16, on a GPU"
        return commands, left_out
    try:
        model = converted_model(python, arguments.checkpoint)
        device = ["--device-id", str(arguments.device_id)]
        commands[CTRANSLATE2] = [python, "-m", f"{_MODULE}.ctranslate2_peer", "--model", model, *device]
    except (CheckpointError, UnavailableError) as error:
        left_out[CTRANSLATE2] = str(error)
    return commands, left_out


def process_of(name: str, command: Command) -> SystemProcess:
    """Start one system; raises UnavailableError when it does not come up."""
    _LOGS.mkdir(parents=True, exist_ok=True)
    return SystemProcess(name, command, log=_LOGS / f"gpu-{name}.log")


def open_systems(
    stack: ExitStack, commands: dict[str, Command], say: Callable[[str], None]
) -> tuple[dict[str, SystemProcess], dict[str, str]]:
    """Start every system; a peer that does not come up is left out with its reason.

    Raises:
        UnavailableError: when our own does not.
    """
    running: dict[str, SystemProcess] = {}
    left_out: dict[str, str] = {}
    for name, command in commands.items():
        try:
            running[name] = stack.enter_context(process_of(name, command))
        except UnavailableError as error:
            if name in MODES:
                raise
            left_out[name] = str(error)
            say(f"{name} is left out: {error}")
    return running, left_out


def told_by(name: str, command: Sequence[str | Path]) -> str:
    """The last line that a program which has the device alone prints; raises UnavailableError when it fails."""
    _LOGS.mkdir(parents=True, exist_ok=True)
    log = _LOGS / f"gpu-{name}.log"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with log.open("w", encoding="utf-8") as errors:
        ended = subprocess.run(
            tied(command), stdout=subprocess.PIPE, stderr=errors, env=environment, text=True, check=False
        )
    lines = ended.stdout.strip().splitlines()
    if ended.returncode != 0 or not lines:
        raise UnavailableError(f"{name} ended with exit code {ended.returncode}; see {log}")
    return lines[-1]
