"""Continuous batching over token ids: numpy and the standard library only."""

from service.engine.engine import Engine, Ticket
from service.engine.limits import EngineLimits
from service.engine.observer import EngineObserver, RefusalReason, SilentObserver, StepRecord
from service.engine.options import DecodingOptions, LengthPenaltyKind, Priority, StoppingRule
from service.engine.runner import Batch, ModelLimits, ModelRunner, RowCopy, StepOutput
from service.engine.sequence import DecodingResult, FinishReason, Hypothesis, Timings

__all__ = [
    "Batch",
    "DecodingOptions",
    "DecodingResult",
    "Engine",
    "EngineLimits",
    "EngineObserver",
    "FinishReason",
    "Hypothesis",
    "LengthPenaltyKind",
    "ModelLimits",
    "ModelRunner",
    "Priority",
    "RefusalReason",
    "RowCopy",
    "SilentObserver",
    "StepOutput",
    "StepRecord",
    "StoppingRule",
    "Ticket",
    "Timings",
]
