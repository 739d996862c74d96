"""``python -m exporter train``: train a translation model on tab-separated pairs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from exporter.checkpoint import CheckpointDescription, LanguagePair, load_checkpoint, save_checkpoint
from exporter.data import Corpus, parse_corpus, read_pairs
from exporter.guided_alignment import links_of_corpora
from exporter.model import TranslationModel
from exporter.train_options import add_options, check_options, guided_head, model_config, trainer_options
from exporter.trainer import Trainer
from exporter.training_data import EpochOptions, LoadedCorpus, TrainingData
from exporter.validation import DevValidator
from exporter.vocabulary import copy_vocabulary, target_token, train_vocabulary, write_vocabulary
from service.errors import InvalidInputError
from service.tokenizer import Tokenizer


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``train`` subcommand."""
    parser = subparsers.add_parser("train", help="train a translation model on tab-separated pairs")
    parser.set_defaults(run=run)
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say and leave the checkpoint in the run directory."""
    check_options(args)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    corpora = [parse_corpus(text) for text in args.data]
    dev = [parse_corpus(text) for text in args.dev]
    directory: Path = args.directory
    pairs = _language_pairs(corpora)
    loaded = _loaded(args, corpora)
    tokenizer = _tokenizer(args, loaded, pairs)
    model = _model(args, tokenizer)
    tqdm.write(f"{model.parameter_count() / 1e6:.1f}M parameters, {tokenizer.vocabulary_size} pieces")
    data = TrainingData(
        loaded,
        tokenizer=tokenizer,
        pairs=pairs,
        options=EpochOptions(
            longest=args.longest,
            concatenate=args.concatenate,
            subword_sampling=args.subword_sampling,
            noised_copies=args.noised_copies,
        ),
        report=tqdm.write,
    )
    validator = DevValidator(dev, pairs, tokenizer=tokenizer, limit=args.dev_limit, bf16=args.precision == "bf16")
    trainer = Trainer(
        model,
        data,
        options=trainer_options(args, guided_head(args, model.config)),
        validate=validator,
        directory=directory,
        report=tqdm.write,
    )
    if args.resume:
        trainer.resume()
    trainer.fit()
    save_checkpoint(directory / "checkpoint", model, _description(args, pairs))
    copy_vocabulary(directory, directory / "checkpoint")
    tqdm.write(f"checkpoint: {directory / 'checkpoint'}")
    return 0


def _loaded(args: argparse.Namespace, corpora: Sequence[Corpus]) -> list[LoadedCorpus]:
    """Read the corpora and the links of their pairs."""
    pairs = [read_pairs(corpus.path, skip_bad_lines=args.skip_bad_lines) for corpus in corpora]
    files = [parse_corpus(text, option="--alignments") for text in args.alignments]
    links = links_of_corpora(corpora, [len(part.sources) for part in pairs], files)
    return [LoadedCorpus(*parts) for parts in zip(corpora, pairs, links, strict=True)]


def _language_pairs(corpora: Sequence[Corpus]) -> tuple[LanguagePair, ...]:
    directions = dict.fromkeys((corpus.source, corpus.target) for corpus in corpora)
    return tuple(LanguagePair(source, target, target_token(target)) for source, target in directions)


def _tokenizer(args: argparse.Namespace, loaded: Sequence[LoadedCorpus], pairs: Sequence[LanguagePair]) -> Tokenizer:
    """Load the vocabulary the arguments name, or the one of the run, or train it on the corpora."""
    directory: Path = args.directory
    existing = args.init_from or args.vocabulary_from
    if existing is not None and not args.resume:
        copy_vocabulary(existing, directory)
    elif not args.resume:
        tqdm.write("training the vocabulary")
        texts = dict.fromkeys(text for part in loaded for text in (*part.pairs.sources, *part.pairs.targets))
        targets = list(dict.fromkeys(pair.target for pair in pairs))
        write_vocabulary(
            directory, train_vocabulary(texts, size=args.vocabulary_size, targets=targets, threads=args.threads)
        )
    return Tokenizer.load(directory)


def _model(args: argparse.Namespace, tokenizer: Tokenizer) -> TranslationModel:
    """Load the model the arguments name or make a new one.

    Raises:
        InvalidInputError: when the options cannot make a model.
    """
    if args.init_from is not None:
        model = load_checkpoint(args.init_from).model
    else:
        try:
            model = TranslationModel(model_config(args, tokenizer))
        except ValueError as error:
            raise InvalidInputError(str(error)) from None
    model.use_fused_attention(args.device == "cuda")
    return model.to(args.device)


def _description(args: argparse.Namespace, pairs: tuple[LanguagePair, ...]) -> CheckpointDescription:
    return CheckpointDescription(
        name=args.name,
        version=args.model_version,
        language_pairs=pairs,
        trusted_source_tokens=args.longest,
        licence=args.licence,
        attribution=args.attribution,
    )
