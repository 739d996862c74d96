"""Between Google's Translation v3 messages and the translator's values: names of models, kinds of text, languages."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from dragoman.google_v3 import translation_service_pb2 as pb
from service.errors import InvalidInputError
from service.translator import ServedModel, TranslationRequest, TranslationResult

# Google's name for its own default model: programs written for it ask for it by this name.
DEFAULT_MODEL = "general/nmt"
HTML, PLAIN = "text/html", "text/plain"
_PARENT = re.compile(r"projects/[^/]+(?:/locations/[^/]+)?")
_MODEL = re.compile(r"projects/[^/]+(?:/locations/[^/]+)?/models/(?P<id>.+)")
# What opens a tag, comment, declaration or processing instruction: https://html.spec.whatwg.org/#tag-open-state
_MARKUP = re.compile(r"<[A-Za-z/!?]")


def request_from_google(message: pb.TranslateTextRequest) -> TranslationRequest:
    """A request. Raises InvalidInputError, naming the field, for what is missing, malformed or not supported."""
    check_parent(message.parent)
    if message.HasField("glossary_config"):
        raise InvalidInputError("glossaries are not supported", field="glossary_config")
    if message.HasField("transliteration_config"):
        raise InvalidInputError("transliteration is not supported", field="transliteration_config")
    if not message.source_language_code:
        raise InvalidInputError("required, as no language detector is configured", field="source_language_code")
    is_html = _is_html(message.mime_type)
    return TranslationRequest(
        contents=tuple(map(_text_of_html, message.contents) if is_html else message.contents),
        source_language=message.source_language_code,
        target_language=message.target_language_code,
        model=model_id(message.model),
    )


def response_to_google(result: TranslationResult, request: pb.TranslateTextRequest) -> pb.TranslateTextResponse:
    """The answer to `request`, in the kind of text that it came in."""
    texts = [translation.text for translation in result.translations]
    name = f"{_location(request.parent)}/models/{result.model_id}"
    return pb.TranslateTextResponse(
        translations=[
            pb.Translation(translated_text=_html_of_text(text) if _is_html(request.mime_type) else text, model=name)
            for text in texts
        ]
    )


def languages_to_google(models: Sequence[ServedModel]) -> pb.SupportedLanguages:
    """What these models read and write together, by code."""
    sources = {pair.source for model in models for pair in model.pairs}
    targets = {pair.target for model in models for pair in model.pairs}
    return pb.SupportedLanguages(
        languages=[
            pb.SupportedLanguage(language_code=code, support_source=code in sources, support_target=code in targets)
            for code in sorted(sources | targets)
        ]
    )


def check_parent(parent: str) -> None:
    """Raises InvalidInputError unless it names a project, as Google requires."""
    if not _PARENT.fullmatch(parent):
        raise InvalidInputError("must be projects/* or projects/*/locations/*", field="parent")


def model_id(name: str) -> str:
    """Our id in a model's name; empty for the default. Raises InvalidInputError for another form."""
    if not name:
        return ""
    match = _MODEL.fullmatch(name)
    if match is None:
        raise InvalidInputError("must be projects/*/locations/*/models/<id>", field="model")
    return "" if match["id"] == DEFAULT_MODEL else match["id"]


def _location(parent: str) -> str:
    return parent if "/locations/" in parent else f"{parent}/locations/global"


def _is_html(mime_type: str) -> bool:
    if mime_type not in ("", HTML, PLAIN):
        raise InvalidInputError(f"must be {PLAIN}, {HTML} or empty, which stands for {HTML}", field="mime_type")
    return mime_type != PLAIN


def _text_of_html(content: str) -> str:
    if _MARKUP.search(content):
        message = f"HTML with tags is not supported; without tags it is, and so is mime_type {PLAIN}"
        raise InvalidInputError(message, field="contents")
    return html.unescape(content)


def _html_of_text(text: str) -> str:
    """As Google writes it: the apostrophe decimal; a no-break space stays visible as one."""
    return html.escape(text).replace("&#x27;", "&#39;").replace("\u00a0", "&nbsp;")
