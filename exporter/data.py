"""Read parallel text: tab-separated files, one pair of sentences a line, plain or gzip."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import DataError, InvalidInputError

_CODE = r"[a-z]{1,8}(?:-(?:[A-Z][a-z]{3}|[A-Z]{2}|[0-9]{3}))*"
"""A language with script and region, written as BCP 47 does (RFC 5646, 2.1.1): ``zh-Hans`` and ``pt-BR``, so that
``en-zh-Hans`` can be told apart."""
_SPEC = re.compile(rf"(?P<source>{_CODE})-(?P<target>{_CODE})(?:@(?P<share>[0-9.]+))?=(?P<path>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """One file of pairs in one direction, and the share of it that an epoch sees."""

    source: str
    target: str
    path: Path
    share: float = 1.0

    @property
    def direction(self) -> str:
        """The direction as it is written on the command line, such as ``en-de``."""
        return f"{self.source}-{self.target}"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sentences and their translations, in file order, and how many lines were left out as bad."""

    sources: list[str]
    targets: list[str]
    bad_line_count: int = 0


def parse_corpus(text: str, *, option: str = "--data") -> Corpus:
    """Read ``en-de=FILE`` or ``en-de@0.5=FILE``, where 0.5 is the share of the file that each epoch draws.

    ``option`` names the argument in errors.

    Raises:
        InvalidInputError: when the text has another form.
    """
    match = _SPEC.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        share = float(match["share"] or 1.0)
    except ValueError:
        raise InvalidInputError(
            f"{option} takes SOURCE-TARGET=FILE, such as en-de=train.tsv.gz, not {text!r}"
        ) from None
    if not 0.0 < share <= 1.0:
        raise InvalidInputError(f"{option} {text!r}: the share must lie in (0, 1]")
    return Corpus(source=match["source"], target=match["target"], path=Path(match["path"]), share=share)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends, unpacking a name that ends with ``.gz``.

    Raises:
        DataError: when the file cannot be opened, unpacked or decoded.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield line.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError:
                    raise DataError(f"{path}:{number}: not UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged gzip file"
        raise DataError(f"{path}: {reason}") from None


def read_pairs(path: Path, *, skip_bad_lines: bool = False) -> Pairs:
    """Read ``source<TAB>target`` lines; a line with another number of columns or an empty side is bad.

    Raises:
        DataError: naming the first bad line and how many there are, unless ``skip_bad_lines``; or an empty file.
    """
    sources: list[str] = []
    targets: list[str] = []
    first_bad = ""
    bad = 0
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) == 2 and all(column.strip() for column in columns):
            sources.append(columns[0])
            targets.append(columns[1])
            continue
        bad += 1
        if not first_bad:
            fault = "an empty side" if len(columns) == 2 else f"{len(columns)} column{'s' * (len(columns) != 1)}"
            first_bad = f"{path}:{number}: expected source<TAB>target, found {fault}"
    if bad and not skip_bad_lines:
        raise DataError(f"{first_bad} ({bad} bad line{'s' * (bad > 1)} in all; --skip-bad-lines leaves them out)")
    if not sources:
        raise DataError(f"{path}: no pairs")
    return Pairs(sources, targets, bad)
