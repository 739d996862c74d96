"""The reference for beam search: ``transformers.MarianMTModel`` in fp32, with every generation setting spelled out."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exporter.alignment import padded
from exporter.serving import MAX_OUTPUT_TOKENS, BundleEngine
from service.engine import DecodingOptions
from service.errors import ConfigError

BEAM_SIZE = 4
REQUIRED_AGREEMENT = 0.99
_BATCH_TOKENS = 512


@dataclass(frozen=True, slots=True)
class ReferenceAnswer:
    """Ids without EOS and the score after the length penalty."""

    ids: list[int]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamDifference:
    """A sentence whose best hypothesis is not the reference's, with both scores."""

    sentence: int
    score: float
    reference_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamProof:
    """Beam search of all sentences beside the reference's."""

    sentences: int
    beam_size: int
    differences: tuple[BeamDifference, ...]

    @property
    def agreement(self) -> float:
        """The share of sentences with the reference's tokens."""
        return 1.0 - len(self.differences) / max(self.sentences, 1)


def require_transformers() -> None:
    """Check that the reference can be had.

    Raises:
        ConfigError: when ``transformers`` is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ConfigError("the beam proof compares with transformers, which is not installed: pip install transformers")


def reference_answers(
    directory: Path, sources: Sequence[Sequence[int]], *, limit: int, progress: Callable[[int], None]
) -> list[ReferenceAnswer]:
    """Translate ``sources`` (ids with EOS) with beam search; answers have at most ``limit`` tokens, EOS counted.

    The checkpoint's own generation settings lack most of these: they stop at 20 tokens, and padding can win.
    """
    transformers: Any = importlib.import_module("transformers")
    model = transformers.MarianMTModel.from_pretrained(directory, dtype=torch.float32).eval()
    eos, pad = model.config.eos_token_id, model.config.pad_token_id
    settings = transformers.GenerationConfig(
        num_beams=BEAM_SIZE,
        do_sample=False,
        max_new_tokens=limit,
        bad_words_ids=[[pad]],
        forced_eos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=pad,
        decoder_start_token_id=model.config.decoder_start_token_id,
        length_penalty=1.0,
        early_stopping=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    answers: dict[int, ReferenceAnswer] = {}
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    while order:
        count = max(1, _BATCH_TOKENS // len(sources[order[-1]]))
        batch, order = order[-count:], order[:-count]
        ids, mask = padded([sources[index] for index in batch], fill=pad)
        found = model.generate(ids, attention_mask=mask.long(), generation_config=settings)
        for index, row, score in zip(batch, found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
            tokens = row[1:]
            answers[index] = ReferenceAnswer(tokens[: tokens.index(eos)] if eos in tokens else tokens, score)
        progress(len(batch))
    return [answers[index] for index in range(len(sources))]


def prove_beams(
    engine: BundleEngine,
    directory: Path,
    sources: Sequence[Sequence[int]],
    *,
    max_positions: int,
    progress: Callable[[int], None] = lambda sentences: None,
) -> BeamProof:
    """Compare the engine's beam search over ``sources`` with the reference's."""
    limit = min(MAX_OUTPUT_TOKENS, max_positions)
    expected = reference_answers(directory, sources, limit=limit, progress=progress)
    options = DecodingOptions(beam_size=BEAM_SIZE, max_output_tokens=limit)
    results = engine.decode(sources, [options] * len(sources)).results
    differences = [
        BeamDifference(sentence=index, score=result.hypotheses[0].score, reference_score=answer.score)
        for index, (result, answer) in enumerate(zip(results, expected, strict=True))
        if list(result.hypotheses[0].ids) != answer.ids
    ]
    return BeamProof(sentences=len(sources), beam_size=BEAM_SIZE, differences=tuple(differences))
