"""`python -m loadtests.bench.transformers_peer`: transformers in fp32; runs in the peers' own environment."""

from __future__ import annotations

import argparse
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, cast

import torch
import transformers

from loadtests.bench.child import serve
from loadtests.bench.closed_loop import Call
from loadtests.bench.protocol import IdRows, Job
from loadtests.bench.settings import MAX_OUTPUT_TOKENS, Search


class Generator(Protocol):
    """What is used of a model."""

    config: transformers.PretrainedConfig

    def generate(
        self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, generation_config: transformers.GenerationConfig
    ) -> torch.Tensor:
        """Ids (sentences, longest), padded."""


class TransformersRun:
    """A job for generate(); see loadtests.bench.child.Run."""

    def __init__(self, model: Generator, job: Job) -> None:
        self._model = model
        self._job = job
        self._generation = generation_of(model, job.search)
        self._calls = ThreadPoolExecutor(max_workers=job.settings.workers)

    def start(self, call: Call) -> Future[IdRows]:
        """One padded batch on a thread of its own."""
        return self._calls.submit(self._translate, [self._job.sources[index] for index in call])

    @torch.inference_mode()
    def _translate(self, sources: IdRows) -> IdRows:
        torch.set_num_threads(self._job.settings.threads)
        pad, eos = self._generation.pad_token_id, self._generation.eos_token_id
        width = max(map(len, sources))
        ids = torch.tensor([[*source, *[pad] * (width - len(source))] for source in sources])
        mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in sources])
        rows = self._model.generate(input_ids=ids, attention_mask=mask, generation_config=self._generation)
        return [[token for token in row if token not in (pad, eos)] for row in rows.tolist()]

    def ids(self, raw: IdRows) -> IdRows:
        """They are ids already."""
        return raw


def generation_of(model: Generator, search: Search) -> transformers.GenerationConfig:
    """An explicit configuration; the checkpoint's own stops at 20 tokens. Marian's stopping rule does not exist here:
    where it is asked for, generation ends when `beam_size` hypotheses are finished, the nearest there is."""
    config = model.config
    return transformers.GenerationConfig(  # type: ignore[no-untyped-call]
        num_beams=search.beam_size,
        do_sample=False,
        max_new_tokens=MAX_OUTPUT_TOKENS,
        length_penalty=search.length_penalty,
        early_stopping=search.stops_at_best,
        bad_words_ids=[[config.pad_token_id]],
        forced_eos_token_id=config.eos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )


class TransformersSystem:
    """A Marian checkpoint in fp32."""

    def __init__(self, checkpoint: Path) -> None:
        model = transformers.MarianMTModel.from_pretrained(checkpoint, dtype=torch.float32)
        model.requires_grad_(False).train(False)
        self._model = cast(Generator, model)

    def versions(self) -> dict[str, str]:
        """The library and what computes."""
        return {"transformers": transformers.__version__, "torch": torch.__version__, "precision": "float32"}

    def prepare(self, job: Job) -> TransformersRun:
        """Nothing to load again: threads are set call by call."""
        return TransformersRun(self._model, job)


def main() -> None:
    """Serve one checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.transformers_peer", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    serve(TransformersSystem(parser.parse_args().checkpoint))


if __name__ == "__main__":
    main()
