"""Log-probabilities of the whole vocabulary, step after step, as fast as a CPU gives them.

Most of a step of a small model with a large vocabulary is this product. A table of 65,001 rows takes 1.4 times as long
as one of 65,008, and fresh memory for each result a fifth of the time again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from exporter.model import TranslationModel

_ROWS = 16
"""The table is padded to a multiple of this."""


class Projection:
    """The last product of ``model`` and its log-softmax, for at most ``rows`` states at a time."""

    def __init__(self, model: TranslationModel, *, rows: int) -> None:
        missing = -model.output.weight.shape[0] % _ROWS
        self._table = F.pad(model.output.weight, (0, 0, 0, missing)).t()
        self._bias = F.pad(model.final_logits_bias, (0, missing), value=-torch.inf)
        self._logits = self._bias.new_empty(rows, len(self._bias))
        self._log_probs = torch.empty_like(self._logits)

    def log_probs(self, states: Tensor) -> Tensor:
        """Map states (R, D) to (R, V), padding at the end that is never likely; valid until the next call."""
        logits = torch.addmm(self._bias, states, self._table, out=self._logits[: len(states)])
        return torch.log_softmax(logits, dim=-1, out=self._log_probs[: len(states)])
