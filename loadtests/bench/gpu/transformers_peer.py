"""`python -m loadtests.bench.gpu.transformers_peer`: transformers on a device; runs in the peers' own environment."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

import torch
import transformers

from loadtests.bench.child import serve
from loadtests.bench.protocol import Job
from loadtests.bench.transformers_peer import Generator, TransformersRun


class OnDevice:
    """A model on a device that takes and gives tensors in main memory, as the bench hands them over.

    Answers end where the model's positions do, as ours.
    """

    def __init__(self, model: Generator, device: torch.device) -> None:
        self.config = model.config
        self._model = model
        self._device = device

    def generate(
        self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, generation_config: transformers.GenerationConfig
    ) -> torch.Tensor:
        """Ids (sentences, longest), padded; they are here when this returns."""
        longest: int = self.config.max_position_embeddings
        generation_config.max_new_tokens = min(generation_config.max_new_tokens or longest, longest)
        found = self._model.generate(
            input_ids=input_ids.to(self._device),
            attention_mask=attention_mask.to(self._device),
            generation_config=generation_config,
        )
        return found.cpu()


class DeviceTransformers:
    """A Marian checkpoint: fp16 on a GPU, fp32 on a CPU."""

    def __init__(self, checkpoint: Path, device: torch.device) -> None:
        self._dtype = torch.float16 if device.type == "cuda" else torch.float32
        model = transformers.MarianMTModel.from_pretrained(checkpoint, dtype=self._dtype)
        model.requires_grad_(False).train(False)
        self._attention = str(model.config._attn_implementation)
        self._model = OnDevice(cast(Generator, torch.nn.Module.to(model, device)), device)
        self._device = device

    def versions(self) -> dict[str, str]:
        """The libraries, what computes, and how attention is done."""
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        return {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "precision": str(self._dtype).removeprefix("torch."),
            "attention": self._attention,
            "device": name,
        }

    def prepare(self, job: Job) -> TransformersRun:
        """Nothing to load again."""
        return TransformersRun(self._model, job)


def main() -> None:
    """Serve one checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.gpu.transformers_peer", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--device", type=torch.device, required=True, help="cuda:0 or cpu")
    arguments = parser.parse_args()
    serve(DeviceTransformers(arguments.checkpoint, arguments.device))


if __name__ == "__main__":
    main()
