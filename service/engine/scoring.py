"""Length normalisation of hypothesis scores."""

from __future__ import annotations

from service.engine.options import DecodingOptions, LengthPenaltyKind


def length_divisor(length: int, options: DecodingOptions) -> float:
    """What a log-probability of `length` tokens (EOS counted) is divided by.

    MARIAN: length**alpha; GNMT: ((5 + length) / 6)**alpha (Wu et al., 2016, equation 14).
    """
    if options.length_penalty_kind is LengthPenaltyKind.GNMT:
        return float(((5.0 + length) / 6.0) ** options.length_penalty)
    return float(length**options.length_penalty)
