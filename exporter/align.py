"""``python -m exporter align``: link the pieces of training pairs with a word aligner, for guided attention.

The aligner is eflomal (Östling and Tiedemann 2016, https://ufal.mff.cuni.cz/pbml/106/art-ostling-tiedemann.pdf), a
program of its own that is installed apart from this project; it writes links in both directions, and those that both
directions agree on are kept.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from exporter.data import parse_corpus, read_lines, read_pairs
from service.errors import DataError, InvalidInputError
from service.tokenizer import Tokenizer


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``align`` subcommand."""
    parser = subparsers.add_parser("align", help="link the pieces of training pairs with eflomal, for train")
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--vocabulary-from", type=Path, required=True, metavar="DIR", help="the tokenizer files that training uses")
    add("--data", required=True, metavar="en-de=FILE", help="training pairs")
    add("--output", type=Path, required=True, metavar="FILE.gz", help="links in the Pharaoh format, a line per pair")
    add("--aligner", default="eflomal-align", metavar="PROGRAM", help="where eflomal's command is (eflomal-align)")


def run(args: argparse.Namespace) -> int:
    """Align as the arguments say and write the links."""
    if args.output.suffix != ".gz":
        raise InvalidInputError(f"--output {args.output}: the name must end with .gz")
    if not args.output.parent.is_dir():
        raise InvalidInputError(f"--output {args.output}: there is no folder {args.output.parent}")
    corpus = parse_corpus(args.data)
    pairs = read_pairs(corpus.path)
    tokenizer = Tokenizer.load(args.vocabulary_from)
    sources, targets = tokenizer.encode_sources(pairs.sources), tokenizer.encode_targets(pairs.targets)
    with tempfile.TemporaryDirectory() as name:
        joint, forward, reverse = (Path(name) / part for part in ("joint", "forward", "reverse"))
        with joint.open("w", encoding="ascii") as file:
            for source, target in zip(sources, targets, strict=True):
                file.write(f"{_words(source[:-1])} ||| {_words(target[:-1])}\n")
        _run_aligner(args.aligner, joint, forward, reverse)
        count = write_links(args.output, agreed(read_lines(forward), read_lines(reverse)))
    print(f"{args.output}: {count} links of {len(sources)} pairs")
    return 0


def _words(ids: Iterable[int]) -> str:
    return " ".join(map(str, ids))


def _run_aligner(program: str, joint: Path, forward: Path, reverse: Path) -> None:
    command = [program, "-i", str(joint), "-f", str(forward), "-r", str(reverse)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise InvalidInputError(f"--aligner {program}: no such program; pip install eflomal brings it") from None
    except OSError as error:
        raise InvalidInputError(f"--aligner {program}: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"{program} failed with exit code {error.returncode}: {last}") from None


def agreed(forward: Iterable[str], reverse: Iterable[str]) -> Iterator[list[str]]:
    """Yield the links of each line that both directions have, in the order of ``forward``.

    Raises:
        DataError: when one direction has more lines.
    """
    try:
        for mine, other in zip(forward, reverse, strict=True):
            common = set(other.split())
            yield [link for link in mine.split() if link in common]
    except ValueError:
        raise DataError("the aligner wrote a different number of lines in each direction") from None


def write_links(path: Path, rows: Iterable[list[str]]) -> int:
    """Write a line for each row of links, gzipped, the same bytes for the same links, whole or not at all; return the
    number of links."""
    count, partial = 0, path.with_suffix(".partial")
    try:
        with partial.open("wb") as packed, gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
            for row in rows:
                file.write((" ".join(row) + "\n").encode("ascii"))
                count += len(row)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count
