"""The set-ups that a sweep chose, kept in a file so that another run measures the same ones without a sweep."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from loadtests.bench.settings import Settings

Setups = dict[tuple[str, int, int], Settings]
"""By system, beam size and sentences in flight (0: the whole file)."""


def read_setups(path: Path | None) -> Setups:
    """What the file holds; nothing where there is none."""
    if path is None or not path.exists():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {(entry["system"], entry["beam_size"], entry["level"]): Settings(**entry["settings"]) for entry in entries}


def write_setups(path: Path | None, setups: Setups) -> None:
    """Keep `setups`, where there is a path for them."""
    if path is None:
        return
    entries = [
        {"system": system, "beam_size": beam_size, "level": level, "settings": asdict(settings)}
        for (system, beam_size, level), settings in setups.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
