"""The training loop: updates, validation, early stopping, averaging and resuming."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from exporter.batching import Batch, collate, group_by_length
from exporter.checkpoint import load_weights, read_json, save_weights, write_json
from exporter.guided_alignment import GuidedHead, guided_loss
from exporter.model import TranslationModel
from exporter.optimizer import OptimizerName, Optimizers, gradient_norm
from exporter.schedule import LearningRateSchedule
from exporter.training_data import TrainingData
from service.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerOptions:
    """How a run trains and when it validates and ends; minutes count training only, across resumptions."""

    schedule: LearningRateSchedule
    batch_tokens: int = 3000
    accumulate: int = 1
    max_updates: int | None = None
    max_minutes: float | None = None
    max_epochs: int | None = None
    validate_updates: int | None = None
    validate_minutes: float | None = None
    patience: int = 5
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    optimizer: OptimizerName = "adamw"
    muon_rate_ratio: float = 10.0
    weight_decay: float = 0.01
    average: int = 4
    seed: int = 1
    bf16: bool = True
    compile: bool = False
    workers: int = 1
    threads: int = 2
    guided: GuidedHead | None = None


@dataclass(slots=True)
class Progress:
    """Where a run stands; everything that resuming needs beside tensors."""

    update: int = 0
    epoch: int = 0
    batch: int = 0
    target_tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


Validator = Callable[[TranslationModel], Mapping[str, float]]
"""Measures a model; the value named ``score`` is the one to raise."""


def smoothed_loss(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Return the mean cross-entropy of ``logits`` (N, V) against labels mixed with ``smoothing`` of uniform."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def best_entry(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the validation with the highest score, the latest among equals."""
    return max(history, key=lambda entry: (entry["score"], entry["update"]))


class Trainer:
    """Trains ``model`` in place and keeps its state in ``directory``."""

    def __init__(
        self,
        model: TranslationModel,
        data: TrainingData,
        *,
        options: TrainerOptions,
        validate: Validator,
        directory: Path,
        report: Callable[[str], None],
    ) -> None:
        self._model = model
        self._data = data
        self._options = options
        self._validate = validate
        self._directory = directory
        self._report = report
        self._device = model.positions.device
        self._optimizers = Optimizers(
            model,
            name=options.optimizer,
            weight_decay=options.weight_decay,
            muon_rate_ratio=options.muon_rate_ratio,
        )
        self._parameters = list(model.parameters())
        self._pool = ThreadPoolExecutor(options.workers, initializer=torch.set_num_threads, initargs=(options.threads,))
        self._loss = torch.compile(self._batch_loss, dynamic=True) if options.compile else self._batch_loss
        self.progress = Progress()

    def _batch_loss(
        self,
        source_ids: Tensor,
        source_mask: Tensor,
        target_ids: Tensor,
        at: Tensor,
        to: Tensor,
        alignment: Tensor | None,
    ) -> Tensor:
        """Return the loss of predicting ``to`` (N) from the decoder positions ``at`` (N) of the flattened batch.

        Where the batch has an ``alignment`` (B, T, S), the guided head's loss per predicted token is added.
        """
        guided = self._options.guided if alignment is not None else None
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._options.bf16):
            memory = self._model.encode(source_ids, source_mask)
            layers = () if guided is None else (guided.layer,)
            states, weights = self._model.decode(target_ids, memory, source_mask, weights_of=layers)
            logits = self._model.logits(states.flatten(0, 1)[at])
        loss = smoothed_loss(logits, to, smoothing=self._options.label_smoothing)
        if guided is None or alignment is None:
            return loss
        return loss + guided.weight * guided_loss(weights[0][:, guided.head], alignment) / len(to)

    def _gradients(self, batch: Batch, seed: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the summed loss of a batch and its gradients, one for each parameter; ``seed`` fixes its dropout."""
        batch = batch.to(self._device)
        self._model.randomness.seed(seed)
        at = batch.label_mask.flatten().nonzero()[:, 0]
        labels = batch.labels.flatten()[at]
        inputs = (batch.source_ids, batch.source_mask, batch.target_ids, at, labels, batch.alignment)
        loss = self._loss(*inputs) * len(at)
        return loss.detach(), torch.autograd.grad(loss, self._parameters)

    def _update(self, batches: Sequence[Batch]) -> float:
        """Take one optimizer step over ``batches``; return the loss per target token.

        Raises:
            CheckpointError: when the loss is no longer a finite number.
        """
        tokens = sum(batch.target_tokens for batch in batches)
        first_seed = (self._options.seed << 40) + (self.progress.update << 8)
        results = list(self._pool.map(self._gradients, batches, range(first_seed, first_seed + len(batches))))
        loss = float(sum(result[0] for result in results)) / tokens
        for parameter, *gradients in zip(self._parameters, *(result[1] for result in results), strict=True):
            parameter.grad = torch.stack(gradients).sum(dim=0).div_(tokens)
        norm = gradient_norm(self._parameters, largest=self._options.clip_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise CheckpointError(f"training diverged at update {self.progress.update + 1}: the loss is {loss}")
        self.progress.update += 1
        self.progress.target_tokens += tokens
        self._optimizers.step(self._options.schedule.rate(update=self.progress.update, progress=self._share_done()))
        return loss

    def _share_done(self) -> float:
        """Return how much of the run has passed, by updates or by minutes, whichever is further."""
        options, progress = self._options, self.progress
        by_updates = progress.update / options.max_updates if options.max_updates else 0.0
        by_minutes = progress.seconds / (60 * options.max_minutes) if options.max_minutes else 0.0
        return min(1.0, max(by_updates, by_minutes))

    def _done(self) -> bool:
        epochs = self._options.max_epochs
        return self._share_done() >= 1.0 or (epochs is not None and self.progress.epoch >= epochs)

    def fit(self) -> None:
        """Train until the limits are reached or validation no longer improves; leaves the best weights in the model."""
        while not self._done() and not self._stalled():
            self._train_epoch()
        if not self.progress.history or self.progress.history[-1]["update"] != self.progress.update:
            self._validate_and_save()
        self._finish()

    def _train_epoch(self) -> None:
        progress, options = self.progress, self._options
        generator = np.random.default_rng([options.seed, progress.epoch])
        examples = self._data.epoch(generator)
        groups = group_by_length(examples, budget=options.batch_tokens, generator=generator)
        config = self._model.config
        self._model.train()
        with tqdm(total=len(groups), initial=progress.batch, desc=f"epoch {progress.epoch + 1}", mininterval=2) as bar:
            while progress.batch < len(groups):
                started = time.monotonic()
                chosen = groups[progress.batch : progress.batch + options.accumulate]
                loss = self._update(
                    [
                        collate(
                            [examples[index] for index in group],
                            pad_id=config.pad_id,
                            start_id=config.decoder_start_id,
                        )
                        for group in chosen
                    ]
                )
                progress.batch += len(chosen)
                progress.seconds += time.monotonic() - started
                speed = progress.target_tokens / max(progress.seconds, 1e-9)
                bar.update(len(chosen))
                bar.set_postfix_str(f"loss {loss:.3f}, {speed:.0f} tokens/s, update {progress.update}", refresh=False)
                if self._validation_due():
                    self._validate_and_save()
                if self._done() or self._stalled():
                    return
        progress.epoch += 1
        progress.batch = 0
        if options.validate_updates is None and options.validate_minutes is None:
            self._validate_and_save()

    def _validation_due(self) -> bool:
        options, progress = self._options, self.progress
        if options.validate_minutes is not None:
            last = progress.history[-1]["minutes"] if progress.history else 0.0
            if progress.seconds / 60 - last >= options.validate_minutes:
                return True
        return options.validate_updates is not None and progress.update % options.validate_updates == 0

    def _stalled(self) -> bool:
        """Return whether the best validation lies more than ``patience`` validations back."""
        scores = [entry["score"] for entry in self.progress.history]
        return len(scores) > self._options.patience and max(scores[-self._options.patience :]) <= max(
            scores[: -self._options.patience]
        )

    def _validate_and_save(self) -> None:
        started = time.monotonic()
        self._model.eval()
        measured = dict(self._validate(self._model))
        self._model.train()
        progress = self.progress
        progress.seconds += time.monotonic() - started
        entry = {"update": progress.update, "minutes": round(progress.seconds / 60, 2), **measured}
        progress.history.append(entry)
        shown = ", ".join(f"{name} {value:.2f}" for name, value in measured.items())
        self._report(
            f"update {progress.update}, epoch {progress.epoch + 1}, {progress.seconds / 60:.1f} min, "
            f"{progress.target_tokens} tokens: {shown}"
        )
        self.save_state()

    def _weights_path(self, update: int) -> Path:
        return self._directory / "weights" / f"{update:08d}.safetensors"

    def save_state(self) -> None:
        """Write all that resuming needs; keep the weights of the last ``average`` validations and of the best one."""
        save_weights(self._weights_path(self.progress.update), self._model.state_dict())
        state = {f"optimizer|{key}": tensor for key, tensor in self._optimizers.state_tensors().items()}
        save_weights(self._directory / "state.safetensors", state)
        write_json(
            self._directory / "state.json",
            {name: getattr(self.progress, name) for name in Progress.__slots__},
        )
        history = self.progress.history
        kept = {int(entry["update"]) for entry in history[-self._options.average :]}
        kept.add(self.progress.update)
        if history:
            kept.add(int(best_entry(history)["update"]))
        for path in (self._directory / "weights").glob("*.safetensors"):
            if int(path.stem) not in kept:
                path.unlink()

    def resume(self) -> None:
        """Go on from the state in the directory, so that the run goes as if it had never stopped.

        Raises:
            CheckpointError: when the state is missing, damaged or of another model.
        """
        state = read_json(self._directory / "state.json")
        try:
            self.progress = Progress(**state)  # type: ignore[arg-type]
        except TypeError:
            raise CheckpointError(f"{self._directory / 'state.json'}: not the state of a run") from None
        tensors = load_weights(self._directory / "state.safetensors")
        self._optimizers.load_state_tensors({key.removeprefix("optimizer|"): value for key, value in tensors.items()})
        self._load_weights([self.progress.update])

    def _load_weights(self, updates: Sequence[int]) -> None:
        """Fill the model with the mean of the weights saved at ``updates``."""
        total: dict[str, Tensor] = {}
        for update in updates:
            for name, tensor in load_weights(self._weights_path(update)).items():
                total[name] = total[name] + tensor if name in total else tensor
        try:
            self._model.load_state_dict({name: tensor / len(updates) for name, tensor in total.items()})
        except RuntimeError:
            raise CheckpointError(f"{self._directory}: the saved weights are of another model") from None

    def _finish(self) -> None:
        """Leave in the model the average of the last validations' weights or the best ones, whichever scores higher."""
        history = self.progress.history
        best = best_entry(history)
        recent = [int(entry["update"]) for entry in history[-self._options.average :]]
        self._load_weights(recent)
        self._model.eval()
        averaged = dict(self._validate(self._model))
        self._report(f"average of {len(recent)}: " + ", ".join(f"{key} {value:.2f}" for key, value in averaged.items()))
        if averaged["score"] < best["score"]:
            self._load_weights([int(best["update"])])
            self._report(f"kept update {int(best['update'])}, score {best['score']:.2f}")
