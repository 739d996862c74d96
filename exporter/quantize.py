"""Static int8: one activation scale per product, found on calibration text, with outlier channels smoothed away.

A few channels of a layer norm's output are ten times larger than the rest and would take most of the 256 steps. So each
channel is divided by a factor before quantization and its weights multiplied by it (SmoothQuant, Xiao et al. 2023,
https://arxiv.org/abs/2211.10438), and the range is asymmetric, as activations after swish or ReLU are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.layers import decoder_layers, encoder_layers
from exporter.model import TranslationModel

ACTIVATION_STEPS = 255
WEIGHT_STEPS = 127
SMOOTHING = 0.8
"""How much of a channel's size moves to the weights; see docs/performance.md for what was tried."""
TABLE_SMOOTHING = 0.5
"""The same for the vocabulary table, whose rows are embeddings too."""
CACHE_STEPS = 127
CACHE_MARGIN = 1.1
"""Room for keys and values beyond the largest of calibration."""
FLOOR = 1.0
"""A channel counts as at least this share of the median one, so that one which sleeps in calibration has room."""


@dataclass(slots=True)
class InputRanges:
    """Collects each channel's smallest and largest input to each linear map; an observer of ``exporter.teacher``.

    Of the maps in ``cached``, which make keys and values, the largest absolute output (O) too.
    """

    cached: frozenset[nn.Module] = frozenset()
    lowest: dict[nn.Module, Tensor] = field(default_factory=dict)
    highest: dict[nn.Module, Tensor] = field(default_factory=dict)
    outputs: dict[nn.Module, Tensor] = field(default_factory=dict)

    def __call__(self, module: nn.Linear, states: Tensor) -> None:
        """Take inputs (N, I) into account."""
        low, high = states.amin(dim=0), states.amax(dim=0)
        self.lowest[module] = torch.minimum(self.lowest.get(module, low), low)
        self.highest[module] = torch.maximum(self.highest.get(module, high), high)
        if module in self.cached:
            largest = F.linear(states, module.weight, module.bias).abs().amax(dim=0)
            self.outputs[module] = torch.maximum(self.outputs.get(module, largest), largest)


@dataclass(frozen=True, slots=True)
class ActivationScale:
    """How an input x (N, I) becomes uint8: ``round(x / smoothing / scale) + zero_point``; smoothing is (I)."""

    smoothing: Tensor
    scale: float
    zero_point: int

    def clips(self, states: Tensor) -> Tensor:
        """Return where inputs fall outside the 256 steps, by more than rounding."""
        steps = states / self.smoothing / self.scale + self.zero_point
        return (steps < -0.5) | (steps > ACTIVATION_STEPS + 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """What calibration found.

    ``products`` has the activation scale of each product, by the first of its linear maps; ``caches`` what one int8
    step of each output (O) of the maps to keys and values is worth.
    """

    products: Mapping[nn.Module, ActivationScale]
    caches: Mapping[nn.Module, Tensor]


@dataclass(slots=True)
class ClippedInputs:
    """Counts inputs beyond the calibrated range of their product; an observer of ``exporter.teacher``."""

    scales: Mapping[nn.Module, ActivationScale]
    clipped: int = 0
    total: int = 0

    def __call__(self, module: nn.Linear, states: Tensor) -> None:
        """Take inputs (N, I) into account."""
        if module in self.scales:
            self.clipped += int(self.scales[module].clips(states).sum())
            self.total += states.numel()

    @property
    def share(self) -> float:
        """Clipped inputs over all inputs."""
        return self.clipped / max(self.total, 1)


def calibrated_scales(model: TranslationModel, ranges: InputRanges) -> Scales:
    """Return the scales of every product of ``model``, and of the caches that ``ranges`` has seen."""
    steps = {module: CACHE_MARGIN * largest.clamp_min(1e-5) / CACHE_STEPS for module, largest in ranges.outputs.items()}
    return Scales(products=activation_scales(model, ranges), caches=steps)


def cached_maps(model: TranslationModel) -> frozenset[nn.Module]:
    """Return the linear maps of ``model`` whose outputs a decode step finds in a cache."""
    attentions = [each for layer in decoder_layers(model) for each in (layer.self_attention, layer.cross_attention)]
    return frozenset(each for attention in attentions for each in (attention.key, attention.value))


def activation_scales(model: TranslationModel, ranges: InputRanges) -> dict[nn.Module, ActivationScale]:
    """Return the scale of every product of ``model``."""
    scales: dict[nn.Module, ActivationScale] = {}
    for group in products_of(model):
        first = group[0]
        strength = TABLE_SMOOTHING if first is model.output else SMOOTHING
        weight = torch.cat([linear.weight.detach() for linear in group])
        scales[first] = activation_scale(ranges.lowest[first], ranges.highest[first], weight, strength=strength)
    return scales


def products_of(model: TranslationModel) -> Iterator[Sequence[nn.Linear]]:
    """Yield the linear maps of each product of the graphs: those that share an input are one product."""
    for encoder_layer in encoder_layers(model):
        attention, feed_forward = encoder_layer.self_attention, encoder_layer.feed_forward
        yield [attention.query, attention.key, attention.value]
        yield from ([attention.output], [feed_forward.inner], [feed_forward.outer])
    crossed: list[nn.Linear] = []
    for layer in decoder_layers(model):
        attention, cross, feed_forward = layer.self_attention, layer.cross_attention, layer.feed_forward
        yield [attention.query, attention.key, attention.value]
        yield from ([attention.output], [cross.query], [cross.output], [feed_forward.inner], [feed_forward.outer])
        crossed += [cross.key, cross.value]
    yield crossed
    yield [model.output]


def activation_scale(lowest: Tensor, highest: Tensor, weight: Tensor, *, strength: float) -> ActivationScale:
    """Return the scale for inputs within ``lowest`` to ``highest`` (I) that ``weight`` (O, I) multiplies."""
    inputs = floored(torch.maximum(highest.abs(), lowest.abs()))
    weights = floored(weight.abs().amax(dim=0))
    smoothing = inputs**strength / weights ** (1.0 - strength)
    smoothing = smoothing / smoothing.median()
    low = min(float((lowest / smoothing).min()), 0.0)
    high = max(float((highest / smoothing).max()), 0.0)
    scale = (high - low) / ACTIVATION_STEPS or 1.0
    return ActivationScale(smoothing, scale, round(-low / scale))


def floored(sizes: Tensor) -> Tensor:
    """Return channel sizes with a lower bound relative to the median one."""
    return sizes.clamp_min(max(FLOOR * float(sizes.median()), 1e-5))


def quantize_rows(table: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize each row of ``table`` (O, I) symmetrically to int8; return it and its scales (O)."""
    largest = table.abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / WEIGHT_STEPS, torch.ones_like(largest))
    quantized = (table / scale[:, None]).round().clamp(-WEIGHT_STEPS, WEIGHT_STEPS).to(torch.int8)
    return quantized, scale
