"""The fast last product gives what the model itself gives, for few states and for many."""

from __future__ import annotations

import pytest
import torch

from exporter.model import TranslationModel
from exporter.model_config import ModelConfig
from exporter.projection import Projection

SIZE = 37


def random_model() -> TranslationModel:
    """A model whose vocabulary is no round number."""
    torch.manual_seed(1)
    config = ModelConfig(
        vocabulary_size=SIZE, target_vocabulary_size=SIZE, d_model=16, heads=2,
        encoder_layers=1, decoder_layers=1, encoder_ffn=8, decoder_ffn=8,
    )  # fmt: skip
    model = TranslationModel(config).eval()
    torch.nn.init.normal_(model.final_logits_bias)
    return model


@pytest.mark.parametrize("states", [1, 4, 64, 65, 100])
@torch.inference_mode()
def test_logits_and_log_probabilities_are_the_models(states: int) -> None:
    """Also in a second call with fewer states, which uses the same memory; what pads the table is never likely."""
    model = random_model()
    projection = Projection(model, rows=states)
    for count in (states, max(1, states // 2)):
        inputs = torch.randn(count, model.config.d_model)
        expected = model.logits(inputs)
        torch.testing.assert_close(projection.logits(inputs)[:, :SIZE], expected)
        found = projection.log_probs(inputs)
        torch.testing.assert_close(found[:, :SIZE], torch.log_softmax(expected, dim=-1))
        assert torch.isneginf(found[:, SIZE:]).all()
        assert found.shape[1] > SIZE


@torch.inference_mode()
def test_it_is_as_narrow_as_the_autocast_region() -> None:
    """Validation in bf16 multiplies in bf16, as the model's own product does there."""
    model = random_model()
    with torch.autocast("cpu", torch.bfloat16):
        inputs = torch.randn(4, model.config.d_model)
        found, expected = Projection(model, rows=4).logits(inputs)[:, :SIZE], model.logits(inputs)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)
