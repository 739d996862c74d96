"""Which model answers a request: by pair, by name, by version, by the server's defaults."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from service.errors import NotFoundError
from service.translator import ModelCatalogue, Route
from tests.unit.service.test_pivot import model


def route(catalogue: ModelCatalogue, source: str, target: str, *, name: str = "", version: str = "") -> Route:
    """The route of a request that allows a third language."""
    return catalogue.route(model_id=name, version=version, source=source, target=target, allow_pivot=True)


def test_the_first_that_knows_a_pair_is_its_default() -> None:
    """Unless the server names another, which counts where it is served and knows the pair."""
    first, second = model("first", ("en", "de"), ("en", "fr")), model("second", ("en", "de"))
    plain = ModelCatalogue([first, second])
    assert route(plain, "en", "de").legs[0].model is first
    assert plain.is_default(first, first.pairs[0])
    assert not plain.is_default(second, second.pairs[0])
    named = ModelCatalogue([first, second], defaults={("en", "de"): "second", ("en", "fr"): "second"})
    assert route(named, "en-GB", "de").legs[0].model is second
    assert route(named, "en", "fr").legs[0].model is first
    assert named.is_default(second, second.pairs[0])


def test_a_request_may_name_model_and_version() -> None:
    """Two versions are served side by side; the first is taken where none is named."""
    old, new = model("m", ("en", "de"), version="a" * 12), model("m", ("en", "de"), version="b" * 12)
    catalogue = ModelCatalogue([old, new])
    assert route(catalogue, "en", "de", name="m").legs[0].model is old
    assert route(catalogue, "en", "de", name="m", version="b" * 12).legs[0].model is new
    with pytest.raises(NotFoundError, match="no such version"):
        route(catalogue, "en", "de", name="m", version="c" * 12)
    with pytest.raises(NotFoundError, match="no such model"):
        route(catalogue, "en", "de", name="n")


def test_the_language_between_is_the_first_that_serves_in_the_order_of_the_models() -> None:
    """Each leg by the default of its pair."""
    catalogue = ModelCatalogue([
        model("zh-ja", ("zh", "ja")), model("zh-fr", ("zh", "fr")), model("zh-en", ("zh", "en")),
        model("en-de", ("en", "de")), model("fr-de", ("fr", "de")), model("fr-de-2", ("fr", "de")),
    ])  # fmt: skip
    found = route(catalogue, "zh-CN", "de")
    assert found.pivot_language == "fr"
    assert [leg.model.id for leg in found.legs] == ["zh-fr", "fr-de"]


def test_what_was_found_is_found_again_until_other_models_are_published() -> None:
    """Routes are kept by how requests spell them, and a model that is gone is not kept for their sake."""
    old, new = model("m", ("en", "de"), version="a" * 12), model("m", ("en", "de"), version="b" * 12)
    catalogue = ModelCatalogue([old])
    gone = weakref.ref(old.engine)
    assert route(catalogue, "en", "de") is route(catalogue, "en", "de")
    assert route(catalogue, "en-GB", "de").legs[0].model is old
    catalogue.publish([new])
    assert route(catalogue, "en", "de").legs[0].model is new
    del old
    assert gone() is None
    catalogue.publish([])
    with pytest.raises(NotFoundError):
        route(catalogue, "en", "de")


async def test_a_model_is_in_use_until_its_last_request_has_ended() -> None:
    """Whoever unloads it waits for all of them."""
    served = model("m", ("en", "de"))
    catalogue = ModelCatalogue([served])
    found = route(catalogue, "en", "de")
    with catalogue.holding(found):
        with catalogue.holding(found):
            waiting = asyncio.create_task(catalogue.wait_unused(served))
            catalogue.publish([])
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 10)
