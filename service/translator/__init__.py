"""The text pipeline: contents to sentences to tokens, through the engine, and back."""

from service.segmentation import Boundary
from service.translator.cache import DecodingCache
from service.translator.catalogue import LanguagePair, Leg, ModelCatalogue, Route, ServedModel
from service.translator.translation import (
    Alignment,
    CallTimings,
    Fallback,
    Pivot,
    SentenceEnd,
    SentenceTranslation,
    Span,
    TextDelta,
    TextHypothesis,
    Token,
    Translation,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
)
from service.translator.translator import Translator, TranslatorLimits

__all__ = [
    "Alignment",
    "Boundary",
    "CallTimings",
    "DecodingCache",
    "Fallback",
    "LanguagePair",
    "Leg",
    "ModelCatalogue",
    "Pivot",
    "Route",
    "SentenceEnd",
    "SentenceTranslation",
    "ServedModel",
    "Span",
    "TextDelta",
    "TextHypothesis",
    "Token",
    "Translation",
    "TranslationOptions",
    "TranslationRequest",
    "TranslationResult",
    "Translator",
    "TranslatorLimits",
]
