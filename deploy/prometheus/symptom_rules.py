"""Alerts on what harms callers whatever the objectives say: overload, replicas that are stuck or gone, bad models."""

from __future__ import annotations

from deploy.prometheus.expressions import Rule, alert, share_of_calls

# Under Kubernetes the job is NAMESPACE/NAME of the PodMonitor.
UP = 'up{job=~".*dragoman.*"}'


def saturation() -> list[Rule]:
    """More work than capacity."""
    return [
        alert(
            "DragomanOverloaded",
            share_of_calls("RESOURCE_EXHAUSTED", "5m") + " > 0.1",
            severity="page",
            lasting="10m",
            summary="{{ $value | humanizePercentage }} of calls are turned away: too many, or beyond their allowance",
        ),
        alert(
            "DragomanRefusesCalls",
            share_of_calls("RESOURCE_EXHAUSTED", "5m") + " > 0.01",
            severity="ticket",
            lasting="10m",
            summary="{{ $value | humanizePercentage }} of calls are turned away: too many, or beyond their allowance",
        ),
        alert(
            "DragomanDeadlinesMissed",
            share_of_calls("DEADLINE_EXCEEDED", "15m") + " > 0.05",
            severity="ticket",
            lasting="15m",
            summary="{{ $value | humanizePercentage }} of calls do not finish before their deadline",
        ),
        alert(
            "DragomanQueueSlow",
            "dragoman:queue_seconds:p95_5m > 1",
            severity="ticket",
            lasting="15m",
            summary="Sentences wait {{ $value | humanizeDuration }} for a slot of model {{ $labels.model }} (p95)",
        ),
        alert(
            "DragomanMemoryNearLimit",
            "process_resident_memory_bytes > 0.9 * (dragoman_memory_limit_bytes > 0)",
            severity="ticket",
            lasting="10m",
            summary="{{ $labels.instance }} uses {{ $value | humanize1024 }}B, over 90% of its memory",
        ),
        alert(
            "DragomanGpuMemoryFull",
            "dragoman_gpu_memory_used_bytes / dragoman_gpu_memory_bytes > 0.97",
            severity="ticket",
            lasting="10m",
            summary="GPU {{ $labels.device }} of {{ $labels.instance }} has {{ $value | humanizePercentage }} in use",
        ),
    ]


def stuck() -> list[Rule]:
    """Replicas that are gone or do not get on."""
    work = "sum by (model, instance) (dragoman_queue_sequences)"
    running = "sum by (model, instance) (dragoman_sentence_slots_used)"
    steps = "sum by (model, instance) (rate(dragoman_step_rows_count[2m]))"
    return [
        alert(
            "DragomanEngineStuck",
            f"({work} + {running}) > 0 and {steps} == 0",
            severity="page",
            lasting="2m",
            summary="Model {{ $labels.model }} on {{ $labels.instance }} has work but takes no steps",
        ),
        alert(
            "DragomanDown",
            f"absent({UP} == 1)",
            severity="page",
            lasting="2m",
            summary="No replica answers Prometheus",
        ),
        alert(
            "DragomanReplicaDown",
            f"{UP} == 0",
            severity="ticket",
            lasting="5m",
            summary="{{ $labels.instance }} does not answer Prometheus",
        ),
    ]


def model_health() -> list[Rule]:
    """Models that are not there, fail, or translate badly."""
    by = "sum by (model)"
    sentences = f'{by} (rate(dragoman_sequences_total{{reason=~"eos|length"}}[30m]))'
    return [
        alert(
            "DragomanNoModel",
            f"{UP} == 1 unless on (job, instance) dragoman_model_info",
            severity="ticket",
            lasting="10m",
            summary="{{ $labels.instance }} runs but has loaded no model",
        ),
        alert(
            "DragomanVersionsDiffer",
            "count by (model) (count by (model, version) (dragoman_model_info)) > 1",
            severity="ticket",
            lasting="1h",
            summary="{{ $value }} versions of model {{ $labels.model }} are served side by side",
        ),
        alert(
            "DragomanModelRefused",
            'sum by (instance) (increase(dragoman_model_loads_total{outcome="refused"}[15m])) > 0',
            severity="ticket",
            lasting="1m",
            summary="{{ $labels.instance }} has refused a bundle; the models it had go on",
        ),
        alert(
            "DragomanEngineErrors",
            f'{by} (increase(dragoman_sequences_total{{reason="error"}}[10m])) > 0',
            severity="ticket",
            lasting="5m",
            summary="Steps of model {{ $labels.model }} fail: {{ $value | humanize }} sentences in ten minutes",
        ),
        alert(
            "DragomanModelLoops",
            f"{by} (rate(dragoman_fallbacks_total[30m])) / {sentences} > 0.05",
            severity="ticket",
            lasting="30m",
            summary="Model {{ $labels.model }} loops or finds no end in {{ $value | humanizePercentage }} of sentences",
        ),
        alert(
            "DragomanModelTruncates",
            f"{by} (rate(dragoman_truncations_total[30m])) / {sentences} > 0.05",
            severity="ticket",
            lasting="30m",
            summary="{{ $value | humanizePercentage }} of sentences of model {{ $labels.model }} are cut off",
        ),
        alert(
            "DragomanUnknownCharacters",
            f"{by} (rate(dragoman_unknown_characters_total[30m]))"
            f" / {by} (rate(dragoman_source_tokens_total[30m])) > 0.05",
            severity="ticket",
            lasting="30m",
            summary="Model {{ $labels.model }} is sent text that it cannot read: wrong language?",
        ),
    ]
