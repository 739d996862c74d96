"""What an export is asked to do, and which of it makes no sense together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.alignment import REQUIRED_ACCURACY
from exporter.checkpoint import LanguagePair
from exporter.presets import PRESETS
from service.bundle import Precision
from service.errors import ConfigError, DataError

PROOF_SENTENCES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How to export; texts are the caller's sentences, None where the exporter makes its own.

    ``proof_beams`` says on how many of the sentences beam search is proved, None on all of them.
    """

    precision: Precision = "fp32"
    fused: bool = True
    calibration_texts: Sequence[str] | None = None
    proof_texts: Sequence[str] | None = None
    proof_references: Sequence[str] | None = None
    proof_sentences: int = PROOF_SENTENCES
    alignment_accuracy: float = REQUIRED_ACCURACY
    proof_beams: int | None = None
    tune: bool = False
    threads: int = 2


def check_options(options: ExportOptions) -> None:
    """Refuse options that contradict each other.

    Raises:
        ConfigError: naming the option.
    """
    if options.proof_sentences < 8:
        raise ConfigError("--proof-sentences must be at least 8")
    if options.proof_beams is not None and options.proof_beams < 0:
        raise ConfigError("--proof-beams must be 0 or more")
    if not 0.0 <= options.alignment_accuracy <= 1.0:
        raise ConfigError("--alignment-accuracy must be 0 to 1")
    if options.threads < 1:
        raise ConfigError("--threads must be at least 1")
    if options.calibration_texts is not None and not PRESETS[options.precision].integer_weights:
        raise ConfigError(f"--calibration-text has no effect with --precision {options.precision}")
    if options.proof_references is not None:
        if options.proof_texts is None:
            raise ConfigError("--proof-references needs --proof-text")
        if len(options.proof_references) != len(options.proof_texts):
            raise DataError(
                f"{len(options.proof_texts)} proof sentences but {len(options.proof_references)} references"
            )


def check_references(options: ExportOptions, pairs: Sequence[LanguagePair]) -> None:
    """Refuse references where the proof's sentences go round several target languages.

    Raises:
        ConfigError: saying so.
    """
    if options.proof_references is not None and len(pairs) > 1:
        targets = ", ".join(pair.target for pair in pairs)
        raise ConfigError(f"--proof-references are in one language, and this model's proof goes round {targets}")
