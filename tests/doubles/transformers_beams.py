"""Beam search of ``transformers.MarianMTModel`` in fp32, with every generation setting spelled out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig, MarianMTModel

from exporter.alignment import padded
from exporter.beam import BeamAnswer
from exporter.beam_proof import BEAM_SIZE
from exporter.greedy import batches_of_like_length

_BATCH_TOKENS = 512


def transformers_beams(directory: Path, sources: Sequence[Sequence[int]], *, limit: int) -> list[list[BeamAnswer]]:
    """Return the best answers to ``sources`` (ids with EOS), of at most ``limit`` tokens each, EOS counted.

    The checkpoint's own generation settings lack most of these: they stop at 20 tokens, and padding can win.
    """
    model = MarianMTModel.from_pretrained(directory, dtype=torch.float32).eval()  # type: ignore[no-untyped-call]
    eos, pad = model.config.eos_token_id, model.config.pad_token_id
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        num_beams=BEAM_SIZE,
        num_return_sequences=BEAM_SIZE,
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
    answers: dict[int, list[BeamAnswer]] = {}
    for batch in batches_of_like_length(sources, batch_tokens=_BATCH_TOKENS):
        ids, mask = padded([sources[index] for index in batch], fill=pad)
        generated = model.generate(ids, attention_mask=mask.long(), generation_config=settings)
        found = [
            BeamAnswer(row[1 : row.index(eos)], score)
            for row, score in zip(generated.sequences.tolist(), generated.sequences_scores.tolist(), strict=True)
        ]
        for place, index in enumerate(batch):
            answers[index] = found[place * BEAM_SIZE : (place + 1) * BEAM_SIZE]
    return [answers[index] for index in range(len(sources))]
