"""`python -m loadtests.bench.ctranslate2_peer`: CTranslate2 as a library; runs in the peers' own environment."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import ctranslate2  # type: ignore[import-not-found]  # only the peers have it

from loadtests.bench.child import serve
from loadtests.bench.closed_loop import Call
from loadtests.bench.protocol import IdRows, Job
from loadtests.bench.settings import MAX_OUTPUT_TOKENS

Pieces = list[list[str]]


class CTranslate2Run:
    """A job for a translator; see loadtests.bench.child.Run."""

    def __init__(self, translator: ctranslate2.Translator, vocabulary: Sequence[str], job: Job) -> None:
        self._translator = translator
        self._ids = {piece: index for index, piece in enumerate(vocabulary)}
        self._sources = [[vocabulary[index] for index in source] for source in job.sources]
        self._search = job.search
        self._settings = job.settings
        self._calls = ThreadPoolExecutor(max_workers=max(1, job.in_flight // job.settings.call_size))

    def start(self, call: Call) -> Future[Pieces]:
        """One translate_batch on a thread of its own; it leaves the interpreter while it computes."""
        return self._calls.submit(self._translate, [self._sources[index] for index in call])

    def _translate(self, sources: Pieces) -> Pieces:
        results = self._translator.translate_batch(
            sources,
            beam_size=self._search.beam_size,
            length_penalty=self._search.length_penalty,
            max_batch_size=self._settings.max_batch_size,
            batch_type=self._settings.batch_type,
            max_decoding_length=MAX_OUTPUT_TOKENS,
            min_decoding_length=0,
            max_input_length=0,
        )
        return [result.hypotheses[0] for result in results]

    def ids(self, raw: Pieces) -> IdRows:
        """Back from pieces to ids."""
        return [[self._ids[piece] for piece in pieces] for pieces in raw]


class CTranslate2System:
    """A converted model; loaded again when workers or threads change."""

    def __init__(self, model: Path, *, compute_type: str) -> None:
        self._model = model
        self._compute_type = compute_type
        self._vocabulary: list[str] = json.loads((model / "shared_vocabulary.json").read_text(encoding="utf-8"))
        self._translator: ctranslate2.Translator | None = None
        self._layout = ""

    def versions(self) -> dict[str, str]:
        """The library and the precision."""
        return {"ctranslate2": str(ctranslate2.__version__), "precision": self._compute_type}

    def prepare(self, job: Job) -> CTranslate2Run:
        """Load the model for the job's workers and threads, unless it is."""
        settings = job.settings
        if self._layout != settings.layout:
            self._translator = None
            self._translator = ctranslate2.Translator(
                str(self._model),
                compute_type=self._compute_type,
                inter_threads=settings.workers,
                intra_threads=settings.threads,
                max_queued_batches=-1,
            )
            self._layout = settings.layout
        return CTranslate2Run(self._translator, self._vocabulary, job)


def main() -> None:
    """Serve one converted model."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.ctranslate2_peer", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--compute-type", choices=("int8", "float32"), required=True)
    arguments = parser.parse_args()
    serve(CTranslate2System(arguments.model, compute_type=arguments.compute_type))


if __name__ == "__main__":
    main()
