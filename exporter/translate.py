"""Translate lists of texts greedily with the PyTorch model: the reference beside which the served graphs are held."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from exporter.greedy import greedy_answers
from exporter.model import TranslationModel
from service.tokenizer import Tokenizer

Translator = Callable[[Sequence[str]], list[str]]
"""Anything that turns texts into translations, in order: the PyTorch model here, a bundle's engine elsewhere."""


class GreedyTranslator:
    """A ``Translator`` for one direction; batches are padded, and a batch holds texts of like length."""

    def __init__(
        self,
        model: TranslationModel,
        tokenizer: Tokenizer,
        *,
        target_token: str | None,
        max_new_tokens: int = 256,
        token_budget: int = 2048,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._target_token = target_token
        self._max_new_tokens = max_new_tokens
        self._token_budget = token_budget

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Translate ``texts``; the model must be in evaluation mode."""
        return [self._tokenizer.decode(ids) for ids in self.translate_ids(self.encode(texts))]

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the source ids of each text, cut to the model's positions with EOS kept."""
        limit = self._model.config.max_positions
        encoded = (self._tokenizer.encode(text, self._target_token).ids for text in texts)
        return [ids if len(ids) <= limit else (*ids[: limit - 1], ids[-1]) for ids in encoded]

    def translate_ids(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        """Translate source ids to target ids that end with EOS."""
        limits = [self._max_new_tokens] * len(sources)
        return greedy_answers(self._model, sources, limits, batch_tokens=self._token_budget)


def autocast(device: torch.device, *, bf16: bool) -> torch.autocast:
    """Return the context in which a model runs in bf16 on ``device``, or in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
