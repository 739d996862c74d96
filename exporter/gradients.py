"""The loss of training and its gradients, for the batches of one update side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from exporter.batching import Batch
from exporter.guided_alignment import GuidedHead, guided_loss
from exporter.model import TranslationModel


def smoothed_loss(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Return the mean cross-entropy of ``logits`` (N, V) against labels mixed with ``smoothing`` of uniform."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


class Gradients:
    """Computes ``workers`` batches at a time, each on ``threads`` CPU threads; ``guided`` is a head to teach."""

    def __init__(
        self,
        model: TranslationModel,
        *,
        label_smoothing: float,
        guided: GuidedHead | None,
        bf16: bool,
        compiled: bool,
        workers: int,
        threads: int,
    ) -> None:
        self._model = model
        self._label_smoothing = label_smoothing
        self._guided = guided
        self._bf16 = bf16
        self._device = model.positions.device
        self._parameters = list(model.parameters())
        self._pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
        self._loss = torch.compile(self._batch_loss, dynamic=True) if compiled else self._batch_loss

    def compute(self, batches: Sequence[Batch], *, first_seed: int) -> float:
        """Leave in each parameter its gradient per target token of ``batches``; return their loss per target token.

        Seeds from ``first_seed`` on fix the dropout, one for each batch: the number of workers changes nothing.
        """
        tokens = sum(batch.target_tokens for batch in batches)
        results = list(self._pool.map(self._of_batch, batches, range(first_seed, first_seed + len(batches))))
        for parameter, *gradients in zip(self._parameters, *(result[1] for result in results), strict=True):
            parameter.grad = torch.stack(gradients).sum(dim=0).div_(tokens)
        return float(sum(result[0] for result in results)) / tokens

    def _of_batch(self, batch: Batch, seed: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the summed loss of a batch and its gradients, one for each parameter; ``seed`` fixes its dropout."""
        batch = batch.to(self._device)
        self._model.randomness.seed(seed)
        at = batch.label_mask.flatten().nonzero()[:, 0]
        labels = batch.labels.flatten()[at]
        inputs = (batch.source_ids, batch.source_mask, batch.target_ids, at, labels, batch.alignment)
        loss = self._loss(*inputs) * len(at)
        return loss.detach(), torch.autograd.grad(loss, self._parameters)

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
        guided = self._guided if alignment is not None else None
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            memory = self._model.encode(source_ids, source_mask)
            layers = () if guided is None else (guided.layer,)
            states, weights = self._model.decode(target_ids, memory, source_mask, weights_of=layers)
            logits = self._model.logits(states.flatten(0, 1)[at])
        loss = smoothed_loss(logits, to, smoothing=self._label_smoothing)
        if guided is None or alignment is None:
            return loss
        return loss + guided.weight * guided_loss(weights[0][:, guided.head], alignment) / len(to)
