"""The models that serve now, which of them answer a request, and which are in use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cachetools import LRUCache

from service.engine import Engine
from service.errors import NotFoundError
from service.tokenizer import Tokenizer
from service.translator.languages import check_language_code, general_code, language_candidates

_ROUTES_KEPT = 256
"""Of the routes asked for since the last publication, by how requests spell them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePair:
    """One direction of translation; `target_token` starts the source text where a model writes several languages."""

    source: str
    target: str
    target_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServedModel:
    """A loaded model with its engine; lengths count tokens. Two of them are equal only if they are the same.

    `repeatable` says that its answer to a sentence never depends on company.
    """

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
    repeatable: bool = True
    precision: str
    provider: str
    licence: str = ""
    attribution: str = ""

    def find_pair(self, source: str, target: str) -> LanguagePair | None:
        """The pair that serves these language codes: as they are, by the model's aliases, or without their region."""
        for source_code in language_candidates(source, self.language_aliases):
            for target_code in language_candidates(target, self.language_aliases):
                for pair in self.pairs:
                    if (pair.source, pair.target) == (source_code, target_code):
                        return pair
        return None

    def reads(self, source: str) -> list[LanguagePair]:
        """The pairs out of `source`."""
        codes = language_candidates(source, self.language_aliases)
        return [pair for pair in self.pairs if pair.source in codes]


@dataclass(frozen=True, slots=True)
class Leg:
    """One translation by one model."""

    model: ServedModel
    pair: LanguagePair


@dataclass(frozen=True, slots=True)
class Route:
    """The translations that a text goes through: one, or two with a pivot language between them."""

    legs: tuple[Leg, ...]

    @property
    def pivot_language(self) -> str | None:
        """The language between the two legs; None where one model translates."""
        return self.legs[0].pair.target if len(self.legs) > 1 else None


class ModelCatalogue:
    """Finds the models for a request among those that were published last; used from one event loop.

    `defaults` names the model that answers requests for a (source, target) without a model; for other pairs, and where
    that model is not served, it is the first that knows the pair. With `pivoting` a pair that no model knows goes
    through a third language, the first that serves in the order of the models. A request holds its models while it
    needs them, so that whoever unloads one can wait for its last request.
    """

    def __init__(
        self,
        models: Sequence[ServedModel] = (),
        *,
        defaults: Mapping[tuple[str, str], str] | None = None,
        pivoting: bool = True,
    ) -> None:
        self.models = tuple(models)
        self._defaults = dict(defaults or {})
        self._pivoting = pivoting
        self._routes: LRUCache[tuple[str, str, str, str, bool], Route] = LRUCache(_ROUTES_KEPT)
        self._held: Counter[ServedModel] = Counter()
        self._released = asyncio.Event()

    def publish(self, models: Sequence[ServedModel]) -> None:
        """From now on requests find these; those that run keep what they hold."""
        self.models = tuple(models)
        self._routes.clear()

    def route(self, *, model_id: str, version: str, source: str, target: str, allow_pivot: bool) -> Route:
        """The models for a request. One that names a model gets that model, and never a pivot language.

        Raises: InvalidInputError for a malformed language code, NotFoundError for an unknown model or pair.
        """
        key = (model_id, version, source, target, allow_pivot)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = self._find_route(
                model_id=model_id, version=version, source=source, target=target, allow_pivot=allow_pivot
            )
        return route

    def _find_route(self, *, model_id: str, version: str, source: str, target: str, allow_pivot: bool) -> Route:
        check_language_code(source, field="source_language_code")
        check_language_code(target, field="target_language_code")
        candidates = [model for model in self.models if model_id in ("", model.id) and version in ("", model.version)]
        if not candidates:
            which = "model" if not version else "version of this model"
            raise NotFoundError(f"no such {which}; ListModels names those that are served")
        leg = self._direct(source, target, candidates)
        if leg is not None:
            return Route((leg,))
        if allow_pivot and self._pivoting and not (model_id or version):
            legs = self._through_pivot(source, target)
            if legs is not None:
                return Route(legs)
        raise NotFoundError(f"no model here translates {source} to {target}; ListModels names the language pairs")

    def is_default(self, model: ServedModel, pair: LanguagePair) -> bool:
        """Whether `model` answers requests for `pair` that name no model."""
        leg = self._direct(pair.source, pair.target, self.models)
        return leg is not None and leg.model is model

    @contextmanager
    def holding(self, route: Route) -> Iterator[None]:
        """While this lasts, `wait_unused` does not return for the models of `route`."""
        models = [leg.model for leg in route.legs]
        self._held.update(models)
        try:
            yield
        finally:
            self._held.subtract(models)
            for model in models:
                if not self._held[model]:
                    del self._held[model]
            self._released.set()

    def is_held(self, model: ServedModel) -> bool:
        """Whether a request holds `model`."""
        return self._held[model] > 0

    async def wait_unused(self, model: ServedModel) -> None:
        """Returns when no request holds `model`."""
        while self.is_held(model):
            self._released.clear()
            await self._released.wait()

    def _direct(self, source: str, target: str, models: Sequence[ServedModel]) -> Leg | None:
        """The default among those of `models` that know the pair."""
        legs = [Leg(model, pair) for model in models if (pair := model.find_pair(source, target)) is not None]
        for leg in legs:
            if leg.model.id == self._defaults.get((leg.pair.source, leg.pair.target)):
                return leg
        return legs[0] if legs else None

    def _through_pivot(self, source: str, target: str) -> tuple[Leg, Leg] | None:
        if general_code(source) == general_code(target):
            return None
        for model in self.models:
            for pair in model.reads(source):
                first = self._direct(source, pair.target, self.models)
                second = self._direct(pair.target, target, self.models)
                if first is not None and second is not None:
                    return first, second
        return None
