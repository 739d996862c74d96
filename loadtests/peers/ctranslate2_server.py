"""`python -m loadtests.peers.ctranslate2_server`: CTranslate2 behind gRPC; runs in the peers' own environment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import ctranslate2  # type: ignore[import-not-found]  # only the peers have it

from loadtests.bench.settings import MAX_OUTPUT_TOKENS
from loadtests.peers.batching import Ids, Search
from loadtests.peers.server import serve, server_parser


class CTranslate2:
    """A converted model; each thread that translates gets one of its workers."""

    def __init__(self, model: Path, *, workers: int, threads: int, compute_type: str) -> None:
        self._vocabulary: list[str] = json.loads((model / "shared_vocabulary.json").read_text(encoding="utf-8"))
        self._ids = {piece: index for index, piece in enumerate(self._vocabulary)}
        self._translator = ctranslate2.Translator(
            str(model), compute_type=compute_type, inter_threads=workers, intra_threads=threads, max_queued_batches=-1
        )

    def translate(self, sources: Sequence[Ids], search: Search) -> list[Ids]:
        """One batch."""
        results = self._translator.translate_batch(
            [[self._vocabulary[index] for index in source] for source in sources],
            beam_size=search.beam_size,
            length_penalty=search.length_penalty,
            max_decoding_length=MAX_OUTPUT_TOKENS,
            min_decoding_length=0,
            max_input_length=0,
        )
        return [[self._ids[piece] for piece in result.hypotheses[0]] for result in results]


def main() -> None:
    """Serve one converted model."""
    parser = server_parser(__doc__ or "")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--compute-type", choices=("int8", "float32"), default="int8")
    arguments = parser.parse_args()
    model = CTranslate2(
        arguments.model, workers=arguments.workers, threads=arguments.threads, compute_type=arguments.compute_type
    )
    asyncio.run(serve(model.translate, arguments))


if __name__ == "__main__":
    main()
