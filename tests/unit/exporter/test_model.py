"""The model: masks, norms, attention weights, cached decoding and the choices of its configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from exporter.greedy import greedy_decode
from exporter.model import TranslationModel, sinusoidal_positions
from exporter.model_config import Activation, ModelConfig, Norm

_CONFIG = ModelConfig(
    vocabulary_size=40,
    target_vocabulary_size=40,
    d_model=32,
    heads=4,
    encoder_layers=2,
    decoder_layers=2,
    encoder_ffn=48,
    decoder_ffn=40,
)


def _model(config: ModelConfig = _CONFIG, *, seed: int = 0) -> TranslationModel:
    torch.manual_seed(seed)
    model = TranslationModel(config).eval()
    with torch.no_grad():
        model.final_logits_bias.normal_()
    return model


def _source(rows: int = 3, length: int = 7) -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, 40, (rows, length), generator=torch.Generator().manual_seed(1))
    return ids, torch.ones(rows, length, dtype=torch.bool)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "swish"])
def test_padding_never_changes_a_row(norm: Norm, activation: Activation) -> None:
    """A sentence gives the same logits alone as beside longer ones, whatever ids fill the padding."""
    model = _model(replace(_CONFIG, norm=norm, activation=activation))
    ids, mask = _source()
    target = torch.randint(3, 40, (3, 5))
    alone = model(ids[:1, :4], mask[:1, :4], target[:1])
    mask[0, 4:] = False
    torch.testing.assert_close(model(ids, mask, target)[:1], alone, rtol=1e-4, atol=1e-5)


def test_the_decoder_does_not_see_the_future() -> None:
    """Changing a target token changes no logits before it."""
    model = _model()
    ids, mask = _source()
    target = torch.randint(3, 40, (3, 6))
    changed = target.clone()
    changed[:, 3] = (target[:, 3] + 1) % 40
    before, after = model(ids, mask, target), model(ids, mask, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_attention_weights_are_distributions_over_what_may_be_seen(norm: Norm) -> None:
    """Every row of every attention sums to 1 and gives nothing to padding or to the future."""
    model = _model(replace(_CONFIG, norm=norm))
    ids, mask = _source()
    mask[1, 5:] = False
    weights = model.attention_weights(ids, mask, torch.randint(3, 40, (3, 6)))
    assert [len(each) for each in weights] == [2, 2, 2]
    for each in (*weights.encoder, *weights.decoder, *weights.cross):
        torch.testing.assert_close(each.sum(-1), torch.ones(each.shape[:-1]))
    for each in (*weights.encoder, *weights.cross):
        assert not bool(each[1, :, :, 5:].any())
    for each in weights.decoder:
        assert not bool(each.triu(1).any())


def test_asking_for_weights_changes_nothing() -> None:
    """The attention that hands back its weights computes what PyTorch's fused kernel computes."""
    model = _model()
    ids, mask = _source()
    mask[2, 3:] = False
    target = torch.randint(3, 40, (3, 6))
    fused = model(ids, mask, target)
    model.use_fused_attention(False)
    torch.testing.assert_close(model(ids, mask, target), fused, rtol=1e-4, atol=1e-5)
    decoded = model.decode(target, model.encode(ids, mask), mask, weights_of=range(9))
    torch.testing.assert_close(model.logits(decoded.states), fused, rtol=1e-4, atol=1e-5)
    collected = model.attention_weights(ids, mask, target).cross
    for mine, other in zip(decoded.cross_weights, collected, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_only_a_pre_norm_stack_ends_with_a_norm(norm: Norm) -> None:
    """Pre-norm leaves residuals unnormed until the end of the stack; post-norm has no weights there."""
    names = set(_model(replace(_CONFIG, norm=norm)).state_dict())
    assert ("encoder.norm.weight" in names) == (norm == "pre")
    assert ("decoder.norm.weight" in names) == (norm == "pre")


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("tie", [True, False])
def test_tied_weights_are_one_tensor(share: bool, tie: bool) -> None:
    """Sharing and tying are what the configuration says, and counted once."""
    model = _model(replace(_CONFIG, share_embeddings=share, tie_output=tie))
    assert (model.source_embedding.weight is model.target_embedding.weight) == share
    assert (model.output.weight is model.target_embedding.weight) == tie
    smallest = _model().parameter_count()
    assert model.parameter_count() == smallest + 40 * 32 * ((not share) + (not tie))


def test_separate_vocabularies_may_differ_in_size() -> None:
    """A model without shared embeddings predicts over the target's own vocabulary."""
    model = _model(replace(_CONFIG, share_embeddings=False, target_vocabulary_size=23))
    ids, mask = _source()
    assert model(ids, mask, torch.randint(0, 23, (3, 4))).shape == (3, 4, 23)


def test_positions_are_sines_then_cosines() -> None:
    """The table is Marian's: sin(p / 10000^(2i/D)) in column i of the first half, the cosine in the second."""
    table = sinusoidal_positions(50, 8)
    for position, column in ((0, 0), (1, 0), (7, 2), (49, 3)):
        angle = torch.tensor(position / 10000 ** (2 * column / 8))
        torch.testing.assert_close(table[position, column], angle.sin(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(table[position, 4 + column], angle.cos(), rtol=1e-4, atol=1e-5)


def _slow_greedy(model: TranslationModel, source: Tensor, *, max_new_tokens: int) -> list[int]:
    """Decode one sentence by running the whole decoder anew for each token."""
    answer: list[int] = []
    mask = torch.ones_like(source, dtype=torch.bool)
    while len(answer) < max_new_tokens - 1:
        target = torch.tensor([[model.config.decoder_start_id, *answer]])
        logits = model(source, mask, target)[0, -1]
        logits[model.config.pad_id] = -torch.inf
        answer.append(int(logits.argmax()))
        if answer[-1] == model.config.eos_id:
            return answer
    return [*answer, model.config.eos_id]


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_cached_greedy_decoding_equals_decoding_anew(norm: Norm) -> None:
    """Cached, batched and ragged decoding gives each sentence the tokens it gets alone and uncached."""
    with torch.inference_mode():
        model = _model(replace(_CONFIG, norm=norm), seed=5)
        model.final_logits_bias[1] = float(model.final_logits_bias.max()) + 0.5
        ids, mask = _source(rows=12, length=9)
        lengths = [9, 2, 5, 7, 1, 3, 4, 8, 6, 9, 2, 5]
        for row, length in enumerate(lengths):
            mask[row, length:] = False
        answers = greedy_decode(model, ids, mask, max_new_tokens=15)
        alone = [
            _slow_greedy(model, ids[row : row + 1, :length], max_new_tokens=15) for row, length in enumerate(lengths)
        ]
    assert answers == alone
    assert len({len(answer) for answer in answers}) > 1


def test_greedy_never_chooses_padding_and_always_ends() -> None:
    """Padding is banned however likely, and the last allowed token is EOS."""
    model = _model()
    with torch.no_grad():
        model.final_logits_bias[0] = 1000.0
    ids, mask = _source()
    answers = greedy_decode(model, ids, mask, max_new_tokens=6)
    assert all(0 not in answer and answer[-1] == 1 and len(answer) <= 6 for answer in answers)


def test_dropout_depends_on_its_seed_alone_and_keeps_the_mean() -> None:
    """In training the same seed gives the same masks, another seed others; evaluation drops nothing."""
    model = _model(replace(_CONFIG, dropout=0.25)).train()
    ones = torch.ones(200, 500)
    draws = []
    for seed in (3, 3, 4):
        model.randomness.seed(seed)
        draws.append(model.dropout(ones))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert float(draws[0].mean()) == pytest.approx(1.0, abs=0.01)
    assert float((draws[0] == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(model.eval().dropout(ones), ones)


@pytest.mark.parametrize(
    ("field", "value"),
    [("d_model", 30), ("heads", 0), ("dropout", 1.0), ("pad_id", 40), ("norm", "sideways"), ("activation", "tanh")],
)
def test_an_impossible_configuration_is_refused(field: str, value: object) -> None:
    """Sizes that cannot make a model are refused with the reason, not by a crash inside PyTorch."""
    with pytest.raises(ValueError, match=r"d_model|heads|dropout|pad_id|norm|activation"):
        replace(_CONFIG, **{field: value})  # type: ignore[arg-type]
