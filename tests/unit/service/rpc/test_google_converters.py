"""Google's Translation v3 messages as requests and back: kinds of text, names of models, what is refused by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dragoman.google_v3 import translation_service_pb2 as pb
from service.errors import InvalidInputError
from service.rpc.google_converters import model_id, request_from_google, response_to_google
from service.translator import CallTimings, Translation, TranslationResult

PARENT = "projects/any/locations/global"


def message(*contents: str, **fields: object) -> pb.TranslateTextRequest:
    """A request from English to German."""
    known: dict[str, object] = {"parent": PARENT, "source_language_code": "en", "target_language_code": "de"}
    return pb.TranslateTextRequest(contents=contents, **(known | fields))  # type: ignore[arg-type]


def answered(text: str, request: pb.TranslateTextRequest) -> pb.Translation:
    """The answer to `request` if the translation is `text`."""
    timings = CallTimings(total_seconds=0.0, tokenize_seconds=0.0, detokenize_seconds=0.0)
    result = TranslationResult(
        translations=(Translation(text=text),), model_id="echo", model_version="1", timings=timings
    )
    return response_to_google(result, request).translations[0]


@pytest.mark.parametrize("mime_type", ["", "text/html"])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom & Jerry", "Tom & Jerry"),
        ("&lt;b&gt;it&#39;s&lt;/b&gt;", "<b>it's</b>"),
        ("a&nbsp;b &#x4f60;", "a\u00a0b 你"),
        ("2 < 3 > 1, I <3 you", "2 < 3 > 1, I <3 you"),
    ],
)
def test_character_references_of_html_are_decoded(content: str, text: str, mime_type: str) -> None:
    """The model reads what a browser would show; a "less than" that opens no tag is text."""
    assert request_from_google(message(content, mime_type=mime_type)).contents == (text,)


def test_plain_text_goes_as_it_is() -> None:
    """Neither decoded nor encoded, and what looks like a tag is text."""
    request = message("<b>Tom &amp; Jerry</b>", mime_type="text/plain")
    assert request_from_google(request).contents == ("<b>Tom &amp; Jerry</b>",)
    assert answered("<i>&", request).translated_text == "<i>&"


def test_html_is_written_with_references_again() -> None:
    """Nothing in the answer reads as markup, and decoding it gives the translation."""
    html = answered('<b> & "it\'s"\u00a0', message("x")).translated_text
    assert html == "&lt;b&gt; &amp; &quot;it&#39;s&quot;&nbsp;"
    assert request_from_google(message(html)).contents == ('<b> & "it\'s"\u00a0',)


@pytest.mark.parametrize("content", ["<b>bold</b>", "a<br>b", "</p", "<!-- x -->", "<?php", "fine <I", "<a"])
def test_html_with_tags_is_refused_by_name(content: str) -> None:
    """Until markup is supported: translating it as text would break it without a word."""
    with pytest.raises(InvalidInputError, match="HTML with tags is not supported") as caught:
        request_from_google(message("harmless", content))
    assert caught.value.field == "contents"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"glossary_config": pb.TranslateTextGlossaryConfig(glossary="g")}, "glossary_config"),
        ({"glossary_config": pb.TranslateTextGlossaryConfig()}, "glossary_config"),
        ({"transliteration_config": pb.TransliterationConfig()}, "transliteration_config"),
        ({"source_language_code": ""}, "source_language_code"),
        ({"mime_type": "text/markdown"}, "mime_type"),
        ({"parent": ""}, "parent"),
        ({"parent": "folders/x"}, "parent"),
        ({"model": "opus-mt-zh-en"}, "model"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(fields: dict[str, object], field: str) -> None:
    """The error names the field as Google's message calls it."""
    with pytest.raises(InvalidInputError) as caught:
        request_from_google(message("x", **fields))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ""),
        ("projects/p/locations/global/models/general/nmt", ""),
        ("projects/p/models/general/nmt", ""),
        ("projects/1/locations/eu/models/opus-mt-zh-en", "opus-mt-zh-en"),
    ],
)
def test_model_names(name: str, expected: str) -> None:
    """Google's own default is our default; any other id is ours."""
    assert model_id(name) == expected


@pytest.mark.parametrize("parent", ["projects/p", "projects/p/locations/global"])
def test_the_answer_names_its_model(parent: str) -> None:
    """In Google's form, in the caller's own project."""
    assert answered("x", message("x", parent=parent)).model == "projects/p/locations/global/models/echo"


def test_the_stubs_leave_googles_names_free() -> None:
    """A program may load these stubs and Google's own package: our descriptors are not in the pool that all share."""
    program = (
        "from google.protobuf import descriptor_pool\n"
        "import dragoman.google_v3.translation_service_pb2_grpc\n"
        "try:\n"
        "    descriptor_pool.Default().FindMessageTypeByName('google.cloud.translation.v3.Translation')\n"
        "except KeyError:\n"
        "    print('free')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout.strip() == "free", result.stderr
