"""Static int8 scales: what fits is kept, outlier channels do not cost the others their steps, the rest is counted."""

from __future__ import annotations

import pytest
import torch

from exporter.calibration import generated_texts
from exporter.quantize import ActivationScale, ClippedInputs, InputRanges, activation_scale, quantize_rows
from tests.tiny_model import write_tiny_checkpoint


def quantized(states: torch.Tensor, scale: ActivationScale) -> torch.Tensor:
    """Inputs as the graph sees them after quantization."""
    steps = (states / scale.smoothing / scale.scale).round() + scale.zero_point
    return (steps.clamp(0, 255) - scale.zero_point) * scale.scale * scale.smoothing


def scale_of(states: torch.Tensor, weight: torch.Tensor, *, strength: float) -> ActivationScale:
    """The scale calibrated on ``states``."""
    return activation_scale(states.amin(0), states.amax(0), weight, strength=strength)


@pytest.mark.parametrize("low", [-3.0, -0.3, 0.0, 2.0])
def test_what_was_calibrated_is_not_clipped_and_zero_stays_zero(low: float) -> None:
    """Inputs within the calibrated range come back within half a step, and zero exactly, wherever the range lies."""
    states = torch.linspace(low, 5.0, 400).reshape(50, 8)
    scale = scale_of(states, torch.ones(4, 8), strength=0.0)
    assert not scale.clips(states).any()
    assert (quantized(states, scale) - states).abs().max() <= 0.51 * scale.scale
    assert quantized(torch.zeros(1, 8), scale).abs().max() == 0.0
    assert 0 <= scale.zero_point <= 255


def test_an_outlier_channel_costs_the_others_less_when_smoothed() -> None:
    """With one channel 50 times larger, the product's error shrinks several times by smoothing."""
    torch.manual_seed(1)
    states, weight = torch.randn(400, 64), torch.randn(32, 64) / 8
    states[:, 7] *= 50
    weight[:, 7] /= 50
    errors = []
    for strength in (0.0, 0.65):
        scale = scale_of(states, weight, strength=strength)
        rows, row_scale = quantize_rows(weight * scale.smoothing)
        restored = rows * row_scale[:, None] / scale.smoothing
        errors.append(float((quantized(states, scale) @ restored.T - states @ weight.T).pow(2).mean()))
    assert errors[1] < 0.25 * errors[0]


def test_clipped_inputs_are_counted() -> None:
    """Inputs beyond the range count as clipped, those of maps that lead no product do not count at all."""
    linear, other = torch.nn.Linear(8, 4), torch.nn.Linear(8, 4)
    ranges = InputRanges()
    ranges(linear, torch.linspace(-1, 1, 80).reshape(10, 8))
    scale = activation_scale(ranges.lowest[linear], ranges.highest[linear], linear.weight.detach(), strength=0.0)
    counted = ClippedInputs({linear: scale})
    counted(linear, torch.tensor([[0.0, 0.5, -0.5, 0.9, 3.0, -3.0, 0.0, 0.0]]))
    counted(other, torch.full((1, 8), 9.0))
    assert (counted.clipped, counted.total) == (2, 8)


def test_a_row_of_zeros_stays_zero() -> None:
    """The padding row of a table quantizes to zeros, not to a division by zero."""
    table = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    rows, scale = quantize_rows(table)
    assert rows.tolist() == [[0, 0], [64, -127]]
    assert torch.isfinite(scale).all()


def test_generated_sentences_are_reproducible_and_varied(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same seed gives the same sentences, another gives others; none is blank and some have numbers."""
    model = write_tiny_checkpoint(tmp_path_factory.mktemp("text") / "checkpoint") / "source.spm"
    first = generated_texts(model, count=40, seed=1)
    assert first == generated_texts(model, count=40, seed=1)
    assert first != generated_texts(model, count=40, seed=2)
    assert all(text.strip() for text in first)
    assert len({len(text.split()) for text in first}) > 5
    assert any(word.isdigit() for text in first for word in text.split())
