"""The optimizers of a run, and their state as tensors with names, so that it is stored without a pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from exporter.model import TranslationModel
from service.errors import CheckpointError

OptimizerName = Literal["adamw", "muon"]


class Optimizers:
    """AdamW for every weight, or Muon for the hidden matrices and AdamW for the rest.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) steps along the orthogonalised momentum.
    """

    def __init__(
        self, model: TranslationModel, *, name: OptimizerName, weight_decay: float, muon_rate_ratio: float
    ) -> None:
        self._names = {id(parameter): key for key, parameter in model.named_parameters()}
        hidden, rest = split_parameters(model)
        if name == "adamw":
            rest, hidden = [*rest, *hidden], []
        adamw = torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.98), eps=1e-9, weight_decay=weight_decay, fused=True)
        self._rated: list[tuple[torch.optim.Optimizer, float]] = [(adamw, 1.0)]
        if hidden:
            muon = torch.optim.Muon(hidden, lr=0.0, weight_decay=weight_decay, momentum=0.95)
            self._rated.append((muon, muon_rate_ratio))

    def step(self, rate: float) -> None:
        """Update every weight at learning rate ``rate`` and forget the gradients."""
        for optimizer, ratio in self._rated:
            for group in optimizer.param_groups:
                group["lr"] = rate * ratio
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state as ``parameter|field`` -> tensor."""
        tensors: dict[str, Tensor] = {}
        for optimizer, _ in self._rated:
            for parameter, fields in optimizer.state.items():
                for field, value in fields.items():
                    tensors[f"{self._names[id(parameter)]}|{field}"] = torch.as_tensor(value)
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what ``state_tensors`` returned.

        Raises:
            CheckpointError: when a name or shape does not belong to this model.
        """
        owners = {
            self._names[id(parameter)]: (optimizer, parameter)
            for optimizer, _ in self._rated
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for key, tensor in tensors.items():
            name, _, field = key.partition("|")
            if name not in owners or (tensor.ndim and tensor.shape != owners[name][1].shape):
                raise CheckpointError(f"the optimizer state holds {key}, which does not fit the model")
            optimizer, parameter = owners[name]
            optimizer.state[parameter][field] = tensor.to(parameter.device, copy=True)


def split_parameters(model: TranslationModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return (the matrices of the hidden layers, everything else: embeddings, output, biases and norms)."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = name.startswith(("encoder.layers.", "decoder.layers."))
        (hidden if inside and parameter.ndim == 2 else rest).append(parameter)
    return hidden, rest


def gradient_norm(parameters: Sequence[nn.Parameter], *, largest: float) -> float:
    """Scale gradients down to a norm of at most ``largest``; return the norm they had."""
    return float(nn.utils.clip_grad_norm_(parameters, largest))
