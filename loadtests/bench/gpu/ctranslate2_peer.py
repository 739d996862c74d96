"""`python -m loadtests.bench.gpu.ctranslate2_peer`: CTranslate2 in fp16 on a GPU; runs in the peers' environment."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import ctranslate2  # type: ignore[import-not-found]  # only the peers have it

from loadtests.bench.child import serve
from loadtests.bench.ctranslate2_peer import CTranslate2Run
from loadtests.bench.protocol import Job


class DeviceCTranslate2:
    """A converted model on a GPU; ends with a line where the wheel or CUDA's libraries do not do."""

    def __init__(self, model: Path, device_id: int) -> None:
        if ctranslate2.get_cuda_device_count() <= device_id:
            raise SystemExit("this CTranslate2 sees no such CUDA device")
        self._vocabulary: list[str] = json.loads((model / "shared_vocabulary.json").read_text(encoding="utf-8"))
        self._translator = ctranslate2.Translator(
            str(model), device="cuda", device_index=device_id, compute_type="float16", max_queued_batches=-1
        )
        self._translator.translate_batch([[self._vocabulary[0]]], max_decoding_length=2)  # loads CUDA's libraries

    def versions(self) -> dict[str, str]:
        """The library and the precision."""
        return {"ctranslate2": str(ctranslate2.__version__), "precision": str(self._translator.compute_type)}

    def prepare(self, job: Job) -> CTranslate2Run:
        """Nothing to load again."""
        return CTranslate2Run(self._translator, self._vocabulary, job)


def main() -> None:
    """Serve one converted model."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.gpu.ctranslate2_peer", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device-id", type=int, default=0)
    arguments = parser.parse_args()
    serve(DeviceCTranslate2(arguments.model, arguments.device_id))


if __name__ == "__main__":
    main()
