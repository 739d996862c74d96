"""Find the largest input of every linear map of a model, from which int8 graphs take their static activation scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from torch import Tensor, nn

from exporter.alignment import padded
from exporter.graphs import decoder_layers
from exporter.model import TranslationModel, greedy_decode
from service.tokenizer import Tokenizer

BATCH_TOKENS = 2048
LENGTHS = (3, 6, 10, 15, 20, 26, 33, 42)
"""Pieces per generated sentence."""
LOWEST_LOG_PROBABILITY = -1000.0
"""Scores below this are ranks of a BPE model."""

Observer = Callable[[nn.Linear, Tensor], None]


@contextmanager
def observed(model: TranslationModel, observer: Observer, mask: list[Tensor]) -> Iterator[None]:
    """Call ``observer`` with the input (N, I) of every linear map that runs, padded source positions left out.

    ``mask`` holds one (B, S) tensor, True at real source tokens: what reads source positions is masked by it.
    """

    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        states = arguments[0]
        if isinstance(module, nn.Linear):
            observer(module, states[mask[0]] if module in source_maps else states.reshape(-1, states.shape[-1]))

    source_maps: set[nn.Module] = set(model.encoder.modules())
    for layer in decoder_layers(model):
        source_maps |= {layer.cross_attention.key, layer.cross_attention.value}

    def projected(norm: nn.Module, arguments: tuple[Tensor, ...], states: Tensor) -> None:
        observer(
            model.output, states.reshape(-1, states.shape[-1])
        )  # the model multiplies by its weight, not through it

    handles = [module.register_forward_pre_hook(hook) for module in model.modules() if isinstance(module, nn.Linear)]
    handles.append(model.decoder.norm.register_forward_hook(projected))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Split ``order``, which goes by length, into batches of at most ``BATCH_TOKENS`` padded tokens."""
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * lengths[index] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def decode_observed(
    model: TranslationModel,
    sources: Sequence[Sequence[int]],
    limits: Sequence[int],
    observer: Observer,
    *,
    progress: Callable[[int], None] = lambda sentences: None,
) -> list[list[int]]:
    """Translate ``sources`` greedily, longest last, while ``observer`` watches.

    Returns:
        Answers in the order given; one that reaches its limit ends there with EOS, as the reference's do.
    """
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    answers: list[list[int]] = [[] for _ in sources]
    mask: list[Tensor] = [torch.empty(0)]
    with observed(model, observer, mask):
        for batch in batches(order, [len(source) for source in sources]):
            ids, mask[0] = padded([sources[index] for index in batch], fill=model.config.eos_id)
            found = greedy_decode(model, ids, mask[0], max_new_tokens=max(limits[index] for index in batch))
            for index, answer in zip(batch, found, strict=True):
                limit = limits[index]
                answers[index] = answer if len(answer) <= limit else [*answer[: limit - 1], model.config.eos_id]
            progress(len(batch))
    return answers


@dataclass(slots=True)
class LargestInputs:
    """Collects the largest absolute input of each linear map."""

    found: dict[nn.Module, float] = field(default_factory=dict)

    def __call__(self, module: nn.Linear, states: Tensor) -> None:
        """Take one input into account."""
        self.found[module] = max(self.found.get(module, 0.0), float(states.abs().max()))


@dataclass(slots=True)
class ClippedInputs:
    """Counts inputs beyond the calibrated range of their linear map."""

    largest: dict[nn.Module, float]
    clipped: int = 0
    total: int = 0

    def __call__(self, module: nn.Linear, states: Tensor) -> None:
        """Take one input into account."""
        self.clipped += int((states.abs() > self.largest[module]).sum())
        self.total += states.numel()

    @property
    def share(self) -> float:
        """Clipped inputs over all inputs."""
        return self.clipped / max(self.total, 1)


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], target_tokens: Sequence[str | None], *, max_tokens: int
) -> list[list[int]]:
    """Encode texts, going round the model's target tokens, cut to ``max_tokens``."""
    encoded: list[list[int]] = [[] for _ in texts]
    for turn, token in enumerate(target_tokens):
        mine = range(turn, len(texts), len(target_tokens))
        for index, ids in zip(
            mine, tokenizer.encode_sources([texts[i] for i in mine], target_token=token), strict=True
        ):
            encoded[index] = ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]
    return encoded


def generated_texts(source_model: Path, *, count: int, seed: int) -> list[str]:
    """Make source sentences from ``source.spm`` alone: pieces drawn by the frequencies that SentencePiece learned.

    A unigram model stores the log-probability of each piece, so such sentences have the word frequencies of the text
    the model was trained on, without its grammar. A BPE model stores ranks instead; there Zipf's law stands in for the
    frequencies. One word in ten is a number: numbers are copied, which shows where a model looks.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=source_model.read_bytes())
    usable = [
        index
        for index in range(processor.get_piece_size())
        if not (processor.is_control(index) or processor.is_unknown(index) or processor.is_byte(index))
    ]
    scores = np.array([processor.get_score(index) for index in usable])
    weights = 1.0 / (1.0 - scores) if scores.min() < LOWEST_LOG_PROBABILITY else np.exp(scores)
    generator = np.random.default_rng(seed)
    texts: list[str] = []
    for number in range(count):
        drawn = generator.choice(usable, size=LENGTHS[number % len(LENGTHS)], p=weights / weights.sum())
        pieces = [processor.id_to_piece(int(index)) for index in drawn]
        pieces = [f"\u2581{generator.integers(2, 2100)}" if generator.random() < 0.1 else piece for piece in pieces]
        texts.append("".join(pieces).replace("\u2581", " ").strip() or "1")
    return texts
