"""Which languages an imported checkpoint translates, from what its files, its vocabulary and its name say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.checkpoint import LanguagePair
from service.errors import CheckpointError
from service.tokenizer import Tokenizer

_CODES = """
afr:af amh:am ara:ar aze:az bel:be ben:bn bul:bg cat:ca ces:cs cmn:zh cym:cy dan:da deu:de ell:el
eng:en epo:eo est:et eus:eu fas:fa fin:fi fra:fr gle:ga glg:gl guj:gu heb:he hin:hi hrv:hr hun:hu
hye:hy ind:id isl:is ita:it jpn:ja kat:ka kaz:kk khm:km kor:ko lav:lv lit:lt mar:mr mkd:mk mlt:mt
msa:ms nld:nl nno:nn nob:nb nor:no pes:fa pol:pl por:pt ron:ro rus:ru slk:sk slv:sl spa:es sqi:sq
srp:sr swa:sw swe:sv tam:ta tel:te tgl:tl tha:th tur:tr ukr:uk urd:ur vie:vi zho:zh
"""

ISO_639_1: Mapping[str, str] = dict(pair.split(":") for pair in _CODES.split())
"""Three-letter codes of OPUS-MT models that have a two-letter one (ISO 639)."""

_NAME = re.compile(r"(?:.*[-_/])?([a-z]{2,3}(?:_[A-Za-z]{2,4})?)-([a-z]{2,3}(?:_[A-Za-z]{2,4})?)")
_TOKEN = re.compile(r">>([^<>]+)<<")


def normalised(code: str) -> str:
    """Return a BCP-47 code with the shortest language subtag and the usual case, such as ``zh-Hans`` or ``fr-BE``."""
    language, *rest = code.replace("_", "-").split("-")
    language = ISO_639_1.get(language.lower(), language.lower())
    parts = [part.title() if len(part) == 4 else part.upper() for part in rest]
    return "-".join([language, *parts])


def aliases_of(pairs: Sequence[LanguagePair]) -> dict[str, str]:
    """Return other codes (three letters) under which these pairs' languages are asked for."""
    codes = {code for pair in pairs for code in (pair.source, pair.target)}
    return {long: short for long, short in sorted(ISO_639_1.items()) if short in codes}


def pairs_of(
    directory: Path, name: str, tokenizer: Tokenizer, *, source: str | None, target: str | None
) -> tuple[LanguagePair, ...]:
    """Return the pairs of a checkpoint: one per target token where it has such tokens, else the one it names.

    Raises:
        CheckpointError: when neither the files, the name nor the caller say which languages these are.
    """
    told_source, told_target = languages_told(directory, name)
    source, asked = source or told_source, target
    if source is None:
        raise CheckpointError(f"{directory}: the files do not name the source language; give --source")
    tokens = {normalised(match[1]): token for token in tokenizer.target_tokens if (match := _TOKEN.fullmatch(token))}
    if tokens and asked is not None and normalised(asked) not in tokens:
        raise CheckpointError(f"{directory}: no target token for {asked!r}; there are {', '.join(sorted(tokens))}")
    if tokens:
        wanted = sorted(tokens) if asked is None else [normalised(asked)]
        return tuple(LanguagePair(normalised(source), code, tokens[code]) for code in wanted)
    target = asked or told_target
    if target is None:
        raise CheckpointError(f"{directory}: the files do not name the target language; give --target")
    return (LanguagePair(normalised(source), normalised(target), None),)


def languages_told(directory: Path, name: str) -> tuple[str | None, str | None]:
    """Return source and target as the tokenizer's settings, or else the model's name, give them."""
    try:
        settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    if not isinstance(settings, dict):
        settings = {}
    match = _NAME.fullmatch(name)
    named = (match[1], match[2]) if match else (None, None)
    source, target = settings.get("source_lang"), settings.get("target_lang")
    return (
        source if isinstance(source, str) and source else named[0],
        target if isinstance(target, str) and target else named[1],
    )
