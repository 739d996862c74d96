"""Checkpoint directories: what is saved comes back, and what is damaged is refused in one clear line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from exporter.checkpoint import load_checkpoint, save_checkpoint
from service.errors import CheckpointError


@pytest.fixture
def directory(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a tiny checkpoint that a test may damage."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def _change(directory: Path, name: str, tensor: Tensor | None) -> None:
    tensors = load_file(directory / "model.safetensors")
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    save_file(tensors, directory / "model.safetensors")


def test_a_saved_model_comes_back(directory: Path, tmp_path: Path) -> None:
    """Weights, shape and description survive saving and loading, in fp32 exactly and in fp16 nearly."""
    first = load_checkpoint(directory)
    for dtype, tolerance in ((torch.float32, 0.0), (torch.float16, 1e-3)):
        save_checkpoint(tmp_path / "again", first.model, first.description, dtype=dtype)
        again = load_checkpoint(tmp_path / "again")
        assert again.description == first.description
        assert again.model.config == first.model.config
        for name, tensor in first.model.state_dict().items():
            torch.testing.assert_close(again.model.state_dict()[name], tensor, rtol=tolerance, atol=tolerance)


def test_tied_weights_are_stored_once(directory: Path) -> None:
    """The file holds the shared embedding under one name only."""
    names = set(load_file(directory / "model.safetensors"))
    assert "source_embedding.weight" in names
    assert not names & {"target_embedding.weight", "output.weight"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_with_numbers_that_are_not_finite_is_refused(directory: Path, value: float) -> None:
    """NaN and infinity are refused when loading, with the tensor's name."""
    bias = load_file(directory / "model.safetensors")["final_logits_bias"]
    bias[3] = value
    _change(directory, "final_logits_bias", bias)
    with pytest.raises(CheckpointError, match="final_logits_bias holds NaN or infinite"):
        load_checkpoint(directory)


def test_weights_too_large_for_fp16_are_not_saved_as_infinity(directory: Path, tmp_path: Path) -> None:
    """A weight that fp16 cannot hold stops the saving instead of making a broken file."""
    checkpoint = load_checkpoint(directory)
    with torch.no_grad():
        checkpoint.model.final_logits_bias[0] = 1e6
    with pytest.raises(CheckpointError, match="final_logits_bias"):
        save_checkpoint(tmp_path / "half", checkpoint.model, checkpoint.description, dtype=torch.float16)
    assert not (tmp_path / "half" / "model.safetensors").exists()


def test_missing_unexpected_and_misshapen_tensors_are_named(directory: Path) -> None:
    """Each fault of the tensors is told apart, with the tensor's name."""
    _change(directory, "encoder.norm.weight", None)
    with pytest.raises(CheckpointError, match=r"lacks tensor encoder\.norm\.weight"):
        load_checkpoint(directory)
    _change(directory, "encoder.norm.weight", torch.ones(7))
    with pytest.raises(CheckpointError, match=r"encoder\.norm\.weight is \[7\], expected \[32\]"):
        load_checkpoint(directory)
    _change(directory, "encoder.norm.weight", torch.ones(32))
    _change(directory, "stray", torch.ones(1))
    with pytest.raises(CheckpointError, match="unexpected tensor stray"):
        load_checkpoint(directory)


def test_a_truncated_or_missing_file_is_named(directory: Path) -> None:
    """Half a safetensors file, none, and half a config.json give one clear line each."""
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: truncated") as caught:
        load_checkpoint(directory)
    assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such file"):
        load_checkpoint(directory)
    (directory / "config.json").write_text('{"format": "dragoman', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json: not JSON"):
        load_checkpoint(directory)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format_version", 99), ("format", "other"), ("model", None), ("language_pairs", "en-de"), ("surprise", 1)],
)
def test_a_configuration_that_does_not_fit_is_refused(directory: Path, key: str, value: object) -> None:
    """Another format, missing parts and unknown fields are refused, not guessed at."""
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), key: value}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(directory)
