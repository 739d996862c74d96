"""How good a model is in the middle of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.checkpoint import LanguagePair
from exporter.data import Corpus, read_pairs
from exporter.model import TranslationModel
from exporter.scoring import score
from exporter.translate import GreedyTranslator, autocast
from service.errors import InvalidInputError
from service.tokenizer import Tokenizer


class DevValidator:
    """Greedy BLEU and chrF on the first sentences of each dev file; ``score`` is the mean BLEU."""

    def __init__(
        self, dev: Sequence[Corpus], pairs: Sequence[LanguagePair], *, tokenizer: Tokenizer, limit: int, bf16: bool
    ) -> None:
        self._tokens = {f"{pair.source}-{pair.target}": pair.target_token for pair in pairs}
        for corpus in dev:
            if corpus.direction not in self._tokens:
                raise InvalidInputError(f"--dev {corpus.direction}: no training data for this direction")
        self._dev = [(corpus.direction, read_pairs(corpus.path)) for corpus in dev]
        self._tokenizer = tokenizer
        self._limit = limit
        self._bf16 = bf16

    def __call__(self, model: TranslationModel) -> Mapping[str, float]:
        """Translate and score; without dev data every model scores 0, so that the last one is kept."""
        measured: dict[str, float] = {}
        with autocast(model.positions.device, bf16=self._bf16):
            for direction, pairs in self._dev:
                translate = GreedyTranslator(
                    model, self._tokenizer, target_token=self._tokens[direction], max_new_tokens=128
                )
                scores = score(translate(pairs.sources[: self._limit]), pairs.targets[: self._limit])
                measured[f"{direction} BLEU"] = scores.bleu
                measured[f"{direction} chrF"] = scores.chrf
        bleu = [value for name, value in measured.items() if name.endswith("BLEU")]
        return {"score": sum(bleu) / len(bleu) if bleu else 0.0, **measured}
