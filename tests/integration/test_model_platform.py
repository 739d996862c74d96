"""Several models behind one port: routing and pivoting over the wire, and reloads that no call notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service.bundle import Bundle
from service.client import TranslationError
from tests.doubles.callers import Callers
from tests.doubles.echo_bundle import write_echo_bundle
from tests.doubles.platform_server import PlatformServer, echo_runners, platform_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[PlatformServer]:
    """Chinese to English, and English to German in two versions."""
    write_echo_bundle(tmp_path / "a", model_id="zh-en", pairs=[("zh", "en")])
    write_echo_bundle(tmp_path / "b", model_id="en-de", pairs=[("en", "de")], mark="1")
    write_echo_bundle(tmp_path / "c", model_id="en-de", pairs=[("en", "de")], mark="2")
    async with platform_server(tmp_path, runners=echo_runners, options=["--workers", "1"]) as running:
        yield running


def asked(source: str, target: str) -> pb.TranslateRequest:
    """A request for one text of two sentences."""
    return pb.TranslateRequest(
        contents=["I love you. How are you?"],
        source_language_code=source,
        target_language_code=target,
    )


async def test_the_response_names_the_way_that_a_text_took(server: PlatformServer) -> None:
    """Unary, stream and bulk alike; a direct translation has one model and no language between."""
    zh_en, en_de, _ = server.versions
    models = [
        pb.ModelReference(model="zh-en", model_version=zh_en),
        pb.ModelReference(model="en-de", model_version=en_de),
    ]
    async with aio.insecure_channel(server.address) as channel:
        stub = pb_grpc.TranslationServiceStub(channel)
        through = await stub.Translate(asked("zh", "de"))
        assert list(through.pivot_language_codes) == ["en"]
        assert list(through.models) == models
        assert (through.model, through.model_version) == ("en-de", en_de)
        assert through.translations[0].text == "I love you. How are you?"
        direct = await stub.Translate(asked("en", "de"))
        assert list(direct.pivot_language_codes) == []
        assert list(direct.models) == models[1:]
        stream = pb.TranslateStreamRequest(content="I love you.", source_language_code="zh", target_language_code="de")
        *deltas, end = [message async for message in stub.TranslateStream(stream)]
        assert "".join(message.text_delta for message in deltas) == end.end.translation.text == "I love you."
        assert (list(end.end.pivot_language_codes), list(end.end.models)) == (["en"], models)
        items = iter([pb.TranslateBulkRequest(id="1", request=asked("zh", "de"))])
        (answer,) = [message async for message in stub.TranslateBulk(items)]
        assert list(answer.response.pivot_language_codes) == ["en"]
    assert server.metric("pivots_total", model="en-de") == 3
    assert server.metric("source_tokens_total", model="zh-en") > 0


async def test_a_call_may_name_a_version_and_decline_the_way_round(server: PlatformServer) -> None:
    """What is not served so is NOT_FOUND."""
    _, first, second = server.versions
    async with server.client() as client:
        for version in (first, second):
            answer = await client.translate(["x"], source="en", target="de", model="en-de", model_version=version)
            assert answer.model_version == version
            stream = client.stream("x", source="en", target="de", model="en-de", model_version=version)
            *_, last = [message async for message in stream]
            assert last.end.model_version == version
        for model, version, declined in (("", "", True), ("en-de", "", False), ("zh-en", "f" * 12, False)):
            with pytest.raises(TranslationError) as caught:
                await client.translate(
                    ["x"], source="zh", target="de", model=model, model_version=version, disable_pivot=declined
                )
            assert caught.value.code is grpc.StatusCode.NOT_FOUND
        listed = await client.list_models()
    defaults = [pair.is_default for model in listed for pair in model.language_pairs]
    assert defaults == [True, True, False]


async def test_no_call_fails_while_versions_come_and_go(tmp_path: Path) -> None:
    """Unary, streaming and bulk callers go on while a model is replaced five times, and other models come and go."""
    folder = tmp_path / "m"
    versions = [write_echo_bundle(folder, mark="0")]
    async with platform_server(
        tmp_path, runners=echo_runners, options=["--workers", "2", "--cache-mib", "0"]
    ) as server:
        async with Callers(server.address, contents=["I love you. How are you?"], source="en", target="de") as callers:
            for number in range(1, 6):
                await callers.until_more(30)
                versions.append(write_echo_bundle(folder, mark=str(number)))
                other = write_echo_bundle(tmp_path / "n", model_id="other", mark=str(number))
                await server.follow(versions[-1], other)
                await callers.until_answered_by(versions[-1])
            await callers.until_more(30)
        assert callers.failures == []
        assert callers.versions == set(versions)
        assert server.metric("models", state="serving") == 2


async def test_no_call_fails_while_a_real_model_is_replaced(
    tiny_bundle: Path, tiny_int8_bundle: Path, tmp_path: Path
) -> None:
    """Two versions of the tiny model take turns behind a link, and each text is answered as one of them would."""
    link = tmp_path / "tiny"
    versions = {path: Bundle.load(path).manifest.version for path in (tiny_bundle, tiny_int8_bundle)}
    link.symlink_to(tiny_bundle)
    options = ["--workers", "1", "--cache-mib", "0", "--max-source-tokens", "64", "--max-output-tokens", "24"]
    async with platform_server(tmp_path, options=options) as server:
        async with Callers(
            server.address, contents=["I love you.", "We see the book."], source="en", target="de"
        ) as callers:
            for path in (tiny_int8_bundle, tiny_bundle, tiny_int8_bundle):
                await callers.until_more(10)
                swap(link, path)
                await server.follow(versions[path])
                await callers.until_answered_by(versions[path])
        assert callers.failures == []
        assert callers.versions == set(versions.values())
        assert all(len(texts) == 2 for texts in callers.texts.values())


def swap(link: Path, target: Path) -> None:
    """Points `link` to `target`, in one move."""
    new = link.with_name(".new")
    new.symlink_to(target)
    new.replace(link)
