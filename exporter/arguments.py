"""Types of arguments that several commands share."""

from __future__ import annotations

import argparse


def at_least_one(text: str) -> int:
    """A whole number from 1; argparse tells the person who gave another."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number
