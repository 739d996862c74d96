"""The file of bearer tokens: reading it, and `python -m service.tokens new NAME --file FILE` to add one.

A token is 256 random bits, so its SHA-256 is all that has to be kept: nobody can try out that many, and a slow hash,
which guards passwords that people make up, would only slow every call down.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import secrets
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import ConfigError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
PREFIX = "dragoman_"
MAX_TOKENS = 1000
PerSecond = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TokenLimits(BaseModel):
    """What the holder of a token may ask for, None for no limit; at once as much as comes up in `burst_seconds`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calls_per_second: PerSecond | None = None
    characters_per_second: PerSecond | None = None
    burst_seconds: PerSecond = 10.0


class TokenEntry(TokenLimits):
    """One table of the file; `sha256` is the token's, in hexadecimal."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).hexdigest()


def read_tokens(path: Path) -> dict[str, TokenEntry]:
    """The entries of a tokens file (TOML, a table per name). Raises ConfigError with one line."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"--tokens-file: cannot read {path}") from None
    except ValueError:
        raise ConfigError(f"--tokens-file: {path} is not TOML in UTF-8") from None
    if len(tables) > MAX_TOKENS:
        raise ConfigError(f"--tokens-file: {path} holds more than {MAX_TOKENS} tokens")
    entries: dict[str, TokenEntry] = {}
    for name, table in tables.items():
        if not NAME.fullmatch(name):
            raise ConfigError(f"--tokens-file: {path}: a name is 1 to 63 of a-z 0-9 _ -, and {name!r} is not")
        try:
            entries[name] = TokenEntry.model_validate(table)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join([name, *map(str, first["loc"])])
            raise ConfigError(f"--tokens-file: {path}: {place}: {first['msg']}") from None
    return entries


def add_token(path: Path, name: str, limits: TokenLimits) -> str:
    """Makes a token, adds its entry to the file, which is made if there is none, and returns it. Raises ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"a name is 1 to 63 of a-z 0-9 _ -, and {name!r} is not")
    if path.exists() and name in read_tokens(path):
        raise ConfigError(f"{path} holds a token {name} already")
    token = PREFIX + secrets.token_urlsafe(32)
    lines = [f"[{name}]", f'sha256 = "{digest_of(token)}"']
    lines += [f"{field} = {value}" for field, value in limits.model_dump(exclude_defaults=True).items()]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "a", encoding="utf-8") as file:
            file.write("\n".join(["", *lines, ""]))  # a file written by hand may end without a line's end
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {os.strerror(error.errno or 0)}") from None
    return token


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: added, the token is on standard output; 2: not, and one line on standard error says why."""
    parser = argparse.ArgumentParser(prog="python -m service.tokens", description="Make a bearer token.")
    new = parser.add_subparsers(required=True).add_parser("new", help="print a new token, and add it to the file")
    new.add_argument("name", metavar="NAME", help="whom it is for; shows in logs and metrics")
    new.add_argument("--file", type=Path, required=True, help="the service's --tokens-file")
    new.add_argument("--calls-per-second", type=float, help="default: no limit")
    new.add_argument("--characters-per-second", type=float, help="default: no limit")
    new.add_argument("--burst-seconds", type=float, default=10.0, help="so much at once (%(default)s)")
    asked = parser.parse_args(arguments)
    try:
        limits = TokenLimits(
            calls_per_second=asked.calls_per_second,
            characters_per_second=asked.characters_per_second,
            burst_seconds=asked.burst_seconds,
        )
        print(add_token(asked.file, asked.name, limits))
    except ValidationError as error:
        print(f"tokens: {error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}", file=sys.stderr)
        return 2
    except ConfigError as error:
        print(f"tokens: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
