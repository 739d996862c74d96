"""Language codes (BCP-47): their usual spelling, and what is no code at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from service.errors import InvalidInputError

_LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,4}")
_REGION = re.compile(r"-([A-Z]{2}|[0-9]{3})$")


@lru_cache(maxsize=1024)  # each call asks for the same few, several times
def normalise_language_code(code: str) -> str:
    """The usual spelling of a BCP-47 code: language lower case, script titled, region upper case, hyphens."""
    first, *rest = code.replace("_", "-").split("-")
    sizes = {4: str.title, 2: str.upper}
    return "-".join([first.lower(), *(sizes.get(len(part), str.lower)(part) for part in rest)])


def general_code(code: str) -> str:
    """The code without its region."""
    return _REGION.sub("", normalise_language_code(code))


def language_candidates(code: str, aliases: Mapping[str, str]) -> list[str]:
    """The codes that may stand for `code`, best first: itself, what it is an alias of, itself without its region."""
    exact = normalise_language_code(code)
    general = general_code(code)
    known = {normalise_language_code(alias): language for alias, language in aliases.items()}
    return [exact, *(known[form] for form in (exact, general) if form in known), general]


def check_language_code(code: str, *, field: str) -> None:
    """Raises InvalidInputError, which names `field`, for what is not a BCP-47 code."""
    if not code:
        raise InvalidInputError("a language code is required, such as en", field=field)
    if not _LANGUAGE_CODE.fullmatch(code):
        raise InvalidInputError("not a BCP-47 language code, such as en or zh-Hant", field=field)
