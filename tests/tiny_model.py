"""A real checkpoint of a few thousand random weights: small enough to export and serve inside a test."""

from collections.abc import Sequence
from pathlib import Path

import torch

from exporter.checkpoint import CheckpointDescription, LanguagePair, save_checkpoint
from exporter.model import TranslationModel
from exporter.model_config import ModelConfig
from exporter.vocabulary import target_token, train_vocabulary, write_vocabulary

TARGETS = ("de", "fr", "es")
SUBJECTS = ("I", "you", "we", "they", "the child", "my brother", "the old man", "a good friend")
VERBS = ("love", "see", "bring", "forgot", "will buy", "would like", "never found", "can read")
OBJECTS = ("you", "the book", "some water", "a new house", "the train station", "three keys", "this garden", "it all")


def sentences() -> list[str]:
    """Every subject, verb and object together, made-up words and digits: text to make a vocabulary from."""
    made = [f"{subject} {verb} {thing}." for subject in SUBJECTS for verb in VERBS for thing in OBJECTS]
    syllables = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxyz" for vowel in "aeiou"]
    words = [f"{first}{second} {second}{first}" for first in syllables for second in syllables[::9]]
    return [*made, *(sentence.capitalize() for sentence in made), *words, "0 1 2 3 4 5 6 7 8 9 , ! ? ' -"]


def write_tiny_checkpoint(directory: Path, *, seed: int = 1, targets: Sequence[str] = TARGETS) -> Path:
    """Write a model of 1+1 layers and width 32 with random weights, en to ``targets``; returns ``directory``."""
    pieces = write_vocabulary(directory, train_vocabulary(sentences(), size=200, targets=TARGETS, threads=1))
    config = ModelConfig(
        vocabulary_size=pieces,
        target_vocabulary_size=pieces,
        d_model=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn=64,
        decoder_ffn=64,
        max_positions=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TranslationModel(config).eval()
    description = CheckpointDescription(
        name="tiny",
        version="1",
        language_pairs=tuple(LanguagePair("en", target, target_token(target)) for target in targets),
        trusted_source_tokens=64,
        licence="CC0-1.0",
        attribution="random numbers",
    )
    save_checkpoint(directory, model, description)
    return directory
