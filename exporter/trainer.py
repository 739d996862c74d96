"""The training loop: when it updates, validates, stops and averages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from exporter.batching import Batch, collate, group_by_length
from exporter.gradients import Gradients
from exporter.guided_alignment import GuidedHead
from exporter.model import TranslationModel
from exporter.optimizer import OptimizerName, Optimizers, gradient_norm
from exporter.run_directory import Progress, RunDirectory
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


Validator = Callable[[TranslationModel], Mapping[str, float]]
"""Measures a model; the value named ``score`` is the one to raise."""


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
        self._directory = RunDirectory(directory, average=options.average)
        self._report = report
        self._optimizers = Optimizers(
            model,
            name=options.optimizer,
            weight_decay=options.weight_decay,
            muon_rate_ratio=options.muon_rate_ratio,
        )
        self._gradients = Gradients(
            model,
            label_smoothing=options.label_smoothing,
            guided=options.guided,
            bf16=options.bf16,
            compiled=options.compile,
            workers=options.workers,
            threads=options.threads,
        )
        self.progress = Progress()

    def _update(self, batches: Sequence[Batch]) -> float:
        """Take one optimizer step over ``batches``; return the loss per target token.

        Raises:
            CheckpointError: when the loss is no longer a finite number.
        """
        first_seed = (self._options.seed << 40) + (self.progress.update << 8)
        loss = self._gradients.compute(batches, first_seed=first_seed)
        norm = gradient_norm(list(self._model.parameters()), largest=self._options.clip_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise CheckpointError(f"training diverged at update {self.progress.update + 1}: the loss is {loss}")
        self.progress.update += 1
        self.progress.target_tokens += sum(batch.target_tokens for batch in batches)
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
        self._directory.save(progress, self._model, self._optimizers)

    def resume(self) -> None:
        """Go on from the state in the directory, so that the run goes as if it had never stopped.

        Raises:
            CheckpointError: when the state is missing, damaged or of another model.
        """
        self.progress = self._directory.load(self._model, self._optimizers)

    def _finish(self) -> None:
        """Leave in the model the average of the last validations' weights or the best ones, whichever scores higher."""
        best = self.progress.best_validation()
        recent = self.progress.last_validated(self._options.average)
        self._directory.load_weights(self._model, recent)
        self._model.eval()
        averaged = dict(self._validate(self._model))
        self._report(f"average of {len(recent)}: " + ", ".join(f"{key} {value:.2f}" for key, value in averaged.items()))
        if averaged["score"] < best["score"]:
            self._directory.load_weights(self._model, [int(best["update"])])
            self._report(f"kept update {int(best['update'])}, score {best['score']:.2f}")
