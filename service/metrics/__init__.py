"""The metrics page: every metric there is (definitions.py), what an engine reports, and how calls are told apart."""

from service.metrics.calls import LENGTH_CLASSES, exemplar, length_class
from service.metrics.definitions import REQUEST_BUCKETS, ROW_BUCKETS, Metrics
from service.metrics.engine_reports import EngineMetrics

__all__ = [
    "LENGTH_CLASSES",
    "REQUEST_BUCKETS",
    "ROW_BUCKETS",
    "EngineMetrics",
    "Metrics",
    "exemplar",
    "length_class",
]
