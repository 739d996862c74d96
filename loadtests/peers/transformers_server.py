"""`python -m loadtests.peers.transformers_server`: transformers behind gRPC; runs in the peers' own environment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import transformers

from loadtests.bench.settings import Search as BenchSearch
from loadtests.bench.transformers_peer import Generator, generation_of
from loadtests.peers.batching import Ids, Search
from loadtests.peers.server import serve, server_parser


class Transformers:
    """A Marian checkpoint in fp32."""

    def __init__(self, checkpoint: Path, *, threads: int) -> None:
        model = transformers.MarianMTModel.from_pretrained(checkpoint, dtype=torch.float32)
        model.requires_grad_(False).train(False)
        self._model = cast(Generator, model)
        self._threads = threads

    @torch.inference_mode()
    def translate(self, sources: Sequence[Ids], search: Search) -> list[Ids]:
        """One padded batch."""
        torch.set_num_threads(self._threads)
        generation = generation_of(
            self._model,
            BenchSearch(
                name="",
                beam_size=search.beam_size,
                length_penalty=search.length_penalty,
                stops_at_best=search.stops_at_best,
            ),
        )
        pad, eos = generation.pad_token_id, generation.eos_token_id
        width = max(map(len, sources))
        ids = torch.tensor([[*source, *[pad] * (width - len(source))] for source in sources])
        mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in sources])
        rows = self._model.generate(input_ids=ids, attention_mask=mask, generation_config=generation)
        return [[token for token in row if token not in (pad, eos)] for row in rows.tolist()]


def main() -> None:
    """Serve one checkpoint."""
    arguments = server_parser(__doc__ or "").parse_args()
    model = Transformers(arguments.tokenizer, threads=arguments.threads)
    asyncio.run(serve(model.translate, arguments))


if __name__ == "__main__":
    main()
