"""The models that are served, and which of them answers a request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.engine import Engine
from service.errors import InvalidInputError, NotFoundError
from service.tokenizer import Tokenizer

_LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePair:
    """One direction of translation; `target_token` starts the source text where a model writes several languages."""

    source: str
    target: str
    target_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A loaded model with its engine; lengths count tokens."""

    id: str
    version: str
    pairs: tuple[LanguagePair, ...]
    language_aliases: Mapping[str, str] = field(default_factory=dict)
    tokenizer: Tokenizer
    engine: Engine
    max_source_tokens: int
    trusted_source_tokens: int
    max_target_tokens: int
    supports_alignments: bool
    precision: str
    provider: str
    licence: str = ""
    attribution: str = ""

    def find_pair(self, source: str, target: str) -> LanguagePair | None:
        """The pair that serves these language codes: as they are, by the model's aliases, or without their region."""
        for source_code in self._candidates(source):
            for target_code in self._candidates(target):
                for pair in self.pairs:
                    if (pair.source, pair.target) == (source_code, target_code):
                        return pair
        return None

    def _candidates(self, code: str) -> list[str]:
        exact = normalise_language_code(code)
        general = re.sub(r"-([A-Z]{2}|[0-9]{3})$", "", exact)
        aliases = {normalise_language_code(alias): language for alias, language in self.language_aliases.items()}
        return [exact, *(aliases[form] for form in (exact, general) if form in aliases), general]


class ModelCatalogue:
    """Finds the model for a request; the first model that knows a pair is the pair's default."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.models = tuple(models)

    def find(self, *, model_id: str, source: str, target: str) -> tuple[ServedModel, LanguagePair]:
        """The model and pair for a request.

        Raises: InvalidInputError for a malformed language code, NotFoundError for an unknown model or pair.
        """
        _check_language_code(source, "source_language_code")
        _check_language_code(target, "target_language_code")
        candidates = [model for model in self.models if model_id in ("", model.id)]
        if not candidates:
            raise NotFoundError("no such model; ListModels names those that are served")
        for model in candidates:
            pair = model.find_pair(source, target)
            if pair is not None:
                return model, pair
        raise NotFoundError(f"no model here translates {source} to {target}; ListModels names the language pairs")

    def is_default(self, model: ServedModel, pair: LanguagePair) -> bool:
        """Whether `model` answers requests for `pair` that name no model."""
        first = next(m for m in self.models if any((p.source, p.target) == (pair.source, pair.target) for p in m.pairs))
        return first is model


def normalise_language_code(code: str) -> str:
    """The usual spelling of a BCP-47 code: language lower case, script titled, region upper case, hyphens."""
    first, *rest = code.replace("_", "-").split("-")
    sizes = {4: str.title, 2: str.upper}
    return "-".join([first.lower(), *(sizes.get(len(part), str.lower)(part) for part in rest)])


def _check_language_code(code: str, field_name: str) -> None:
    if not code:
        raise InvalidInputError("a language code is required, such as en", field=field_name)
    if not _LANGUAGE_CODE.fullmatch(code):
        raise InvalidInputError("not a BCP-47 language code, such as en or zh-Hant", field=field_name)
