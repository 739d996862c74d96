"""The command line of ``python -m exporter train``, and what it asks of model and trainer."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from exporter.arguments import at_least_one
from exporter.guided_alignment import GuidedHead
from exporter.model_config import ModelConfig
from exporter.schedule import LearningRateSchedule
from exporter.trainer import TrainerOptions
from service.errors import InvalidInputError
from service.tokenizer import Tokenizer

_MODEL_DEFAULTS = {
    "d_model": 320,
    "heads": 5,
    "encoder_layers": 6,
    "decoder_layers": 2,
    "encoder_ffn": 1280,
    "decoder_ffn": 1280,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every option of the ``train`` subcommand."""
    add = parser.add_argument
    add("--data", action="append", required=True, metavar="en-de[@SHARE]=FILE", help="training pairs; repeatable")
    add("--dev", action="append", default=[], metavar="en-de=FILE", help="pairs to validate on; repeatable")
    add(
        "--dev-limit",
        type=at_least_one,
        default=300,
        help="sentences of each dev file that validation translates (300)",
    )
    add("--run-directory", type=Path, required=True, metavar="DIR", dest="directory", help="holds state and result")
    add("--resume", action="store_true", help="go on from the state in --run-directory")
    add("--init-from", type=Path, metavar="DIR", help="start from the weights and vocabulary of this checkpoint")
    add("--vocabulary-from", type=Path, metavar="DIR", help="use the tokenizer files of this directory")
    add("--skip-bad-lines", action="store_true", help="leave out and count ragged lines instead of refusing them")
    _add_model_options(parser)
    _add_data_options(parser)
    _add_run_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    for name, value in _MODEL_DEFAULTS.items():
        add(f"--{name.replace('_', '-')}", type=at_least_one, default=value, help=f"({value})")
    add("--vocabulary-size", type=at_least_one, default=8000, help="pieces of the joint vocabulary (8000)")
    add("--activation", choices=("relu", "gelu", "swish"), default="relu")
    add("--norm", choices=("pre", "post"), default="pre")
    add("--max-positions", type=at_least_one, default=512)
    flag = argparse.BooleanOptionalAction
    add("--share-embeddings", action=flag, default=True, help="one embedding matrix for sources and targets")
    add("--tie-output", action=flag, default=True, help="the target embedding is the output matrix too")
    add("--dropout", type=float, default=0.1)
    add("--name", default="untitled", help="name of the model in its checkpoint")
    add("--model-version", default="0", help="version of the model in its checkpoint")
    add("--licence", default="unknown", help="licence of the model in its checkpoint")
    add("--attribution", default="", help="whom the model's data must name")


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("data").add_argument
    add("--longest", type=at_least_one, default=100, help="leave out pairs with more tokens than this (100)")
    add("--concatenate", type=float, default=0.0, help="share of pairs joined two to four at a time")
    text = "sample segmentations: 1 hardly, 0.3 some, 0.1 wildly (0, off)"
    add("--subword-sampling", type=float, default=0.0, metavar="ALPHA", help=text)
    text = "copies with misspelt sources, as a share of the pairs (0)"
    add("--noised-copies", type=float, default=0.0, metavar="SHARE", help=text)
    add("--batch-tokens", type=at_least_one, default=3000, help="padded tokens of one batch (3000)")
    add("--accumulate", type=at_least_one, default=1, help="batches in one update (1)")
    _add_alignment_options(parser)


def _add_alignment_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("guided alignment of one cross-attention head").add_argument
    add("--alignments", action="append", default=[], metavar="en-de=FILE", help="links of a --data file's pieces")
    add("--alignment-weight", type=float, default=0.1, help="weight of its loss (0.1)")
    add("--alignment-layer", type=int, help="decoder layer of the head, from 0 (the last)")
    add("--alignment-head", type=int, default=0, help="the head, from 0 (0)")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("run").add_argument
    add("--learning-rate", type=float, default=2e-3)
    add("--warmup-updates", type=int, default=400)
    add("--decay", choices=("constant", "inverse-sqrt", "linear"), default="linear")
    add("--optimizer", choices=("adamw", "muon"), default="adamw")
    add("--weight-decay", type=float, default=0.01)
    add("--label-smoothing", type=float, default=0.1)
    add("--clip-norm", type=float, default=1.0)
    add("--max-updates", type=at_least_one)
    add("--max-minutes", type=float, help="end after this many minutes of training and validation")
    add("--max-epochs", type=at_least_one)
    add("--validate-updates", type=at_least_one, help="validate every so many updates instead of each epoch")
    add("--validate-minutes", type=float, help="validate every so many minutes instead of each epoch")
    add("--patience", type=at_least_one, default=5, help="stop after this many validations without a better one (5)")
    add("--average", type=at_least_one, default=4, help="average the weights of this many last validations (4)")
    add("--seed", type=int, default=1)
    add("--precision", choices=("bf16", "fp32"), default="bf16")
    add("--compile", action="store_true", help="compile the loss with torch.compile")
    add("--workers", type=at_least_one, default=1, help="batches of one update computed side by side (1)")
    add("--threads", type=at_least_one, default=2, help="CPU threads of each worker (2)")
    add("--device", choices=("cpu", "cuda"), default="cpu")


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other or the run directory.

    Raises:
        InvalidInputError: naming the option.
    """
    if args.max_updates is None and args.max_minutes is None and args.max_epochs is None:
        raise InvalidInputError("say when to end: --max-updates, --max-minutes or --max-epochs")
    if args.decay == "linear" and args.max_updates is None and args.max_minutes is None:
        raise InvalidInputError("--decay linear needs --max-updates or --max-minutes to know where it ends")
    if args.resume and not (args.directory / "state.json").exists():
        raise InvalidInputError(f"{args.directory}: nothing to resume")
    if not args.resume and (args.directory / "state.json").exists():
        raise InvalidInputError(f"{args.directory}: holds a run already; --resume goes on with it")
    if not 0 <= args.noised_copies < math.inf:
        raise InvalidInputError("--noised-copies must be finite and not below 0")
    if args.alignments and args.subword_sampling > 0:
        raise InvalidInputError("--alignments link the pieces of one segmentation: they need --subword-sampling 0")
    if args.alignments and not 0 < args.alignment_weight < math.inf:
        raise InvalidInputError("--alignment-weight must be above 0 and finite")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError("--device cuda: no CUDA device here")


def model_config(args: argparse.Namespace, tokenizer: Tokenizer) -> ModelConfig:
    """Return the shape of a new model over the vocabulary of ``tokenizer``."""
    return ModelConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        target_vocabulary_size=tokenizer.target_vocabulary_size,
        activation=args.activation,
        norm=args.norm,
        max_positions=args.max_positions,
        share_embeddings=args.share_embeddings,
        tie_output=args.tie_output,
        dropout=args.dropout,
        pad_id=tokenizer.pad_id,
        eos_id=tokenizer.eos_id,
        unk_id=tokenizer.unk_id,
        decoder_start_id=tokenizer.pad_id,
        **{name: getattr(args, name) for name in _MODEL_DEFAULTS},
    )


def guided_head(args: argparse.Namespace, config: ModelConfig) -> GuidedHead | None:
    """Return the head that the arguments ask to teach, if they name alignments.

    Raises:
        InvalidInputError: when the model has no such head.
    """
    if not args.alignments:
        return None
    layer = config.decoder_layers - 1 if args.alignment_layer is None else args.alignment_layer
    if not (0 <= layer < config.decoder_layers and 0 <= args.alignment_head < config.heads):
        raise InvalidInputError(
            f"--alignment-layer {layer}, --alignment-head {args.alignment_head}: "
            f"the decoder has {config.decoder_layers} layers of {config.heads} heads, counted from 0"
        )
    return GuidedHead(layer=layer, head=args.alignment_head, weight=args.alignment_weight)


def trainer_options(args: argparse.Namespace, guided: GuidedHead | None) -> TrainerOptions:
    """Return how the run trains, teaching the ``guided`` head."""
    return TrainerOptions(
        schedule=LearningRateSchedule(peak=args.learning_rate, warmup_updates=args.warmup_updates, decay=args.decay),
        batch_tokens=args.batch_tokens,
        accumulate=args.accumulate,
        max_updates=args.max_updates,
        max_minutes=args.max_minutes,
        max_epochs=args.max_epochs,
        validate_updates=args.validate_updates,
        validate_minutes=args.validate_minutes,
        patience=args.patience,
        label_smoothing=args.label_smoothing,
        clip_norm=args.clip_norm,
        optimizer=args.optimizer,
        weight_decay=args.weight_decay,
        average=args.average,
        seed=args.seed,
        bf16=args.precision == "bf16",
        compile=args.compile,
        workers=args.workers,
        threads=args.threads,
        guided=guided,
    )
