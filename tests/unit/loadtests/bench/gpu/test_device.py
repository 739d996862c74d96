"""The device is found, or its absence is said; peers work on it as they do elsewhere."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest
import torch

from loadtests.bench.cases import OURS, TRANSFORMERS
from loadtests.bench.child import run_job
from loadtests.bench.gpu import __main__ as program
from loadtests.bench.gpu import device, systems
from loadtests.bench.gpu.cases import CTRANSLATE2, DETERMINISTIC
from loadtests.bench.gpu.ceilings import measured
from loadtests.bench.gpu.device import NO_GPU, DeviceWatch, check_precision, has_gpu
from loadtests.bench.gpu.systems import told_by
from loadtests.bench.gpu.transformers_peer import DeviceTransformers
from loadtests.bench.protocol import Job
from loadtests.bench.settings import SEARCHES, Settings
from service.bundle import Bundle
from service.errors import ConfigError, UnavailableError
from tests.doubles.marian_checkpoints import VARIANTS, make_checkpoint
from tests.doubles.transformers_beams import transformers_beams


def test_without_a_gpu_it_is_one_line_and_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody takes it for a run, and nothing is read first."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    missing = str(tmp_path / "none")
    assert program.main(["--bundle", missing, "--text", missing]) == NO_GPU == 3
    assert device.main(["--rounds", "3", "--device-id", "0"]) == NO_GPU
    assert capsys.readouterr().err.count("\n") == 2
    assert device.main(["--provider", "cpu", "--quick"]) == 0


def test_a_provider_without_a_card_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime for GPUs lists its provider on any machine."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert has_gpu(99) is False


def test_a_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A person's mistake ends with exit code 2."""
    missing = str(tmp_path / "none")
    assert program.main(["--provider", "cpu", "--bundle", missing, "--text", missing]) == program.WRONG_USE
    assert program.main(["--provider", "cpu", "--bundle", missing, "--text", missing, "--rounds", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_only_a_precision_that_the_device_runs_is_measured(tiny_bundle: Path, tiny_int8_bundle: Path) -> None:
    """A GPU takes fp16; int8 has no roofline."""
    with pytest.raises(ConfigError, match="is fp32, and cuda is measured with fp16"):
        check_precision(Bundle.load(tiny_bundle), "cuda")
    with pytest.raises(ConfigError, match="is int8, and cpu is measured with fp16 or fp32"):
        check_precision(Bundle.load(tiny_int8_bundle), "cpu")
    check_precision(Bundle.load(tiny_bundle), "cpu")


def test_memory_of_the_cpu_is_that_of_the_systems() -> None:
    """Processes that this one started count, and are gone when they are."""
    watch = DeviceWatch("cpu", 0)
    before = watch.used_bytes()
    program_text = "import sys; held = b'x' * 2**25; print(len(held), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program_text], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert watch.used_bytes() - before >= 2**25


def test_ceilings_are_measured_on_any_device() -> None:
    """A copy and a product take time, so both rates are numbers."""
    found = measured(torch.device("cpu"))
    assert float(found["bytes_per_second"]) > 0
    assert float(found["operations_per_second"]) > 0


def test_transformers_answers_on_a_device_as_it_does_without_one(tmp_path: Path) -> None:
    """The same tokens as a plain call of generate, cut where the model's positions end."""
    directory, model = make_checkpoint(tmp_path, VARIANTS[0])
    sources = [[7, 8, 9, 0], [11, 12, 0]]
    settings = Settings(workers=1, threads=1, call_size=2)
    job = Job(sources=sources, search=SEARCHES["beam4-normalised"], settings=settings, in_flight=2)
    answer = run_job(DeviceTransformers(directory, torch.device("cpu")), job)
    longest = model.config.max_position_embeddings
    expected = transformers_beams(directory, sources, limit=longest)
    assert answer.outputs == [answers[0].ids for answers in expected]


def test_peers_that_cannot_be_installed_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Our own two modes run all the same, and the reason is told for both peers."""

    def refused(arguments: argparse.Namespace) -> Path:
        raise UnavailableError("no network")

    monkeypatch.setattr(systems, "python_of_peers", refused)
    given = program.build_parser().parse_args(
        ["--bundle", str(tmp_path), "--text", str(tmp_path), "--checkpoint", str(tmp_path)]
    )
    commands, left_out = systems.commands_of(given)
    assert list(commands) == [OURS, DETERMINISTIC]
    assert left_out == {TRANSFORMERS: "no network", CTRANSLATE2: "no network"}


def test_a_program_that_fails_is_named_with_its_log() -> None:
    """Its exit code and where its last words are."""
    with pytest.raises(UnavailableError, match=r"test-ended ended with exit code 4; see .*gpu-test-ended\.log"):
        told_by("test-ended", [sys.executable, "-c", "raise SystemExit(4)"])
    assert told_by("test-said", [sys.executable, "-c", "print(1); print(2)"]) == "2"
