"""Checks a KServe ServingRuntime against the models of KServe's own Python client, read as text and never run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

Model = dict[str, str]
"""JSON name of each field to its type, as OpenAPI's generator writes it: `str`, `list[V1Container]`, ..."""


def model_of(models: Path, name: str) -> Model | None:
    """The fields of KServe's class `name`; None for a class of Kubernetes itself."""
    file = models / f"{_snake(name)}.py"
    if not file.exists():
        return None
    tables: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            table = node.targets[0].id
            if table in {"openapi_types", "attribute_map"}:
                tables[table] = ast.literal_eval(node.value)
    return {tables["attribute_map"][field]: kind for field, kind in tables["openapi_types"].items()}


def errors_of(value: object, kind: str, models: Path, place: str) -> list[str]:
    """What is wrong with `value` as a `kind`: unknown fields and wrong types, as far as KServe's own models go."""
    if kind.startswith("list["):
        if not isinstance(value, list):
            return [f"{place}: not a list"]
        return [
            error
            for index, item in enumerate(value)
            for error in errors_of(item, kind[5:-1], models, f"{place}[{index}]")
        ]
    plain = {"str": str, "int": int, "bool": bool}.get(kind)
    if plain is not None:
        return [] if type(value) is plain else [f"{place}: not of type {kind}"]
    model = model_of(models, kind)
    if model is None:
        return []
    if not isinstance(value, dict):
        return [f"{place}: not an object"]
    errors = [f"{place}: no field {name}" for name in value if name not in model]
    for name, item in value.items():
        if name in model:
            errors += errors_of(item, model[name], models, f"{place}.{name}")
    return errors


def pod_of(runtime: dict[str, Any]) -> dict[str, Any]:
    """A pod with the runtime's containers and volumes, for a check by Kubernetes' own schema."""
    spec = runtime["spec"]
    fields = ("containers", "volumes", "nodeSelector", "tolerations", "affinity")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": runtime["metadata"]["name"]},
        "spec": {name: spec[name] for name in fields if name in spec},
    }


def _snake(name: str) -> str:
    """V1alpha1ServingRuntime -> v1alpha1_serving_runtime."""
    return "".join(
        f"_{letter.lower()}" if letter.isupper() and index else letter.lower() for index, letter in enumerate(name)
    )
