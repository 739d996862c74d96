"""What a training run keeps on disk, so that it can go on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from exporter.checkpoint import load_weights, read_json, save_weights, write_json
from exporter.model import TranslationModel
from exporter.optimizer import Optimizers
from service.errors import CheckpointError


@dataclass(slots=True)
class Progress:
    """Where a run stands; everything that resuming needs beside tensors."""

    update: int = 0
    epoch: int = 0
    batch: int = 0
    target_tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def best_validation(self) -> dict[str, float]:
        """Return the validation with the highest score, the latest among equals."""
        return max(self.history, key=lambda entry: (entry["score"], entry["update"]))

    def last_validated(self, count: int) -> list[int]:
        """Return the updates at which the last ``count`` validations took place."""
        return [int(entry["update"]) for entry in self.history[-count:]]


class RunDirectory:
    """``directory`` holds the state of a run, and the weights of its last ``average`` validations and of the best."""

    def __init__(self, directory: Path, *, average: int) -> None:
        self._directory = directory
        self._average = average

    def save(self, progress: Progress, model: TranslationModel, optimizers: Optimizers) -> None:
        """Write all that resuming needs, and delete the weights that no longer count."""
        save_weights(self._weights_path(progress.update), model.state_dict())
        state = {f"optimizer|{key}": tensor for key, tensor in optimizers.state_tensors().items()}
        save_weights(self._directory / "state.safetensors", state)
        write_json(self._directory / "state.json", {name: getattr(progress, name) for name in Progress.__slots__})
        kept = {progress.update, *progress.last_validated(self._average)}
        if progress.history:
            kept.add(int(progress.best_validation()["update"]))
        for path in (self._directory / "weights").glob("*.safetensors"):
            if int(path.stem) not in kept:
                path.unlink()

    def load(self, model: TranslationModel, optimizers: Optimizers) -> Progress:
        """Take back what ``save`` wrote.

        Raises:
            CheckpointError: when the state is missing, damaged or of another model.
        """
        state = read_json(self._directory / "state.json")
        try:
            progress = Progress(**state)  # type: ignore[arg-type]
        except TypeError:
            raise CheckpointError(f"{self._directory / 'state.json'}: not the state of a run") from None
        tensors = load_weights(self._directory / "state.safetensors")
        optimizers.load_state_tensors({key.removeprefix("optimizer|"): value for key, value in tensors.items()})
        self.load_weights(model, [progress.update])
        return progress

    def load_weights(self, model: TranslationModel, updates: Sequence[int]) -> None:
        """Fill ``model`` with the mean of the weights saved at ``updates``.

        Raises:
            CheckpointError: when they are missing, damaged or of another model.
        """
        total: dict[str, Tensor] = {}
        for update in updates:
            for name, tensor in load_weights(self._weights_path(update)).items():
                total[name] = total[name] + tensor if name in total else tensor
        try:
            model.load_state_dict({name: tensor / len(updates) for name, tensor in total.items()})
        except RuntimeError:
            raise CheckpointError(f"{self._directory}: the saved weights are of another model") from None

    def _weights_path(self, update: int) -> Path:
        return self._directory / "weights" / f"{update:08d}.safetensors"
