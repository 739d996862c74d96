"""The text pipeline: contents to sentences to tokens, through the engine, and back."""

from service.segmentation import Boundary
from service.translator.catalogue import LanguagePair, ModelCatalogue, ServedModel
from service.translator.translation import (
    Alignment,
    CallTimings,
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
    "LanguagePair",
    "ModelCatalogue",
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
