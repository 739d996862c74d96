"""`python -m deploy.check --tools FOLDER`: every check of deploy/ that needs no cluster; exit code 1 if one fails."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.check.kserve import errors_of, pod_of
from deploy.check.podman import PACKAGES
from deploy.check.tools import HERE, Toolbox, ToolError, find

DEPLOY = HERE.parent
CHART = DEPLOY / "helm" / "dragoman"
KUBERNETES = "1.34"
KSERVE_SPECS = {"ServingRuntime": "V1alpha1ServingRuntimeSpec", "InferenceService": "V1beta1InferenceServiceSpec"}
SHOWN = 4000

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One check: its name, and what is wrong (empty: nothing)."""

    name: str
    fault: str


def run(name: str, command: Sequence[str | Path], *, text: str | None = None) -> Outcome:
    """A check that is a command: its output is the fault if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=DEPLOY.parent,
    )
    return Outcome(name=name, fault=(done.stdout + done.stderr).strip()[:SHOWN] if done.returncode else "")


def values_files() -> list[Path]:
    """The chart's own values and those that come beside it."""
    return [CHART / "values.yaml", *sorted((DEPLOY / "helm" / "values").glob("*.yaml"))]


def rendered(helm: str, values: Path) -> list[Object]:
    """The objects of the chart with a values file."""
    command = [helm, "template", "dragoman", str(CHART), "--namespace", "dragoman", "--values", str(values)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return objects_in(done.stdout)


def objects_in(text: str) -> list[Object]:
    """The objects of a file with several documents."""
    return [found for found in yaml.safe_load_all(text) if found]


def is_custom(item: Object) -> bool:
    """Whether Kubernetes itself has no schema of it."""
    group = item["apiVersion"].partition("/")[0]
    return "." in group and (not group.endswith(".k8s.io") or group == "gateway.networking.k8s.io")


def check_objects(name: str, objects: list[Object], tools: Toolbox) -> list[Outcome]:
    """Core objects strictly by Kubernetes' schemas, custom ones by their own."""
    kserve = [item for item in objects if item["apiVersion"].startswith("serving.kserve.io/")]
    custom = [item for item in objects if is_custom(item) and item not in kserve]
    core = [item for item in objects if not is_custom(item)]
    core += [pod_of(item) for item in kserve if item["kind"] == "ServingRuntime"]
    outcomes = []
    if core:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "objects.yaml"
            file.write_text(yaml.safe_dump_all(core))
            command: list[str | Path] = [
                tools.program("kubernetes-validate"),
                "--strict",
                "--quiet",
                "-k",
                KUBERNETES,
                file,
            ]
            outcomes.append(run(f"kubernetes-validate --strict: {name}", command))
    if custom:
        shutil.copy(HERE / "validate_crds.mjs", tools.folder)
        node: list[str | Path] = [find("node"), tools.folder / "validate_crds.mjs"]
        outcomes.append(run(f"schemas of custom resources: {name}", node, text=json.dumps(custom)))
    models = tools.site_packages / "kserve" / "models"
    for item in kserve:
        faults = errors_of(item["spec"], KSERVE_SPECS[item["kind"]], models, "spec")
        outcomes.append(Outcome(name=f"KServe's {item['kind']}: {name}", fault="\n".join(faults)))
    return outcomes


def check_chart(tools: Toolbox) -> Iterable[Outcome]:
    """The chart with every values file: lint, template, schemas."""
    helm = tools.helm()
    for values in values_files():
        outcome = run(f"helm lint: {values.name}", [helm, "lint", "--strict", CHART, "--values", values])
        yield outcome
        if not outcome.fault:
            yield from check_objects(values.name, rendered(helm, values), tools)
    wrong = run("", [helm, "template", "dragoman", CHART, "--set", "drainSeconds=soon"])
    yield Outcome(name="the chart's schema refuses a wrong value", fault="" if wrong.fault else "it was accepted")


def check_manifests(tools: Toolbox) -> Iterable[Outcome]:
    """What stands beside the chart."""
    for file in sorted([*(DEPLOY / "kubernetes").glob("*.yaml"), *(DEPLOY / "kserve").glob("*.yaml")]):
        yield from check_objects(file.name, objects_in(file.read_text(encoding="utf-8")), tools)


def check_security(tools: Toolbox) -> Iterable[Outcome]:
    """checkov over everything that would be applied; what it may pass over stands in checkov.yaml with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        objects = [item for values in values_files() for item in rendered(tools.helm(), values) if not is_custom(item)]
        Path(folder, "chart.yaml").write_text(yaml.safe_dump_all(objects))
        for file in (DEPLOY / "kubernetes").glob("*.yaml"):
            Path(folder, file.name).write_bytes(file.read_bytes())
        command: list[str | Path] = [
            tools.program("checkov"),
            "--config-file",
            HERE / "checkov.yaml",
            "--directory",
            folder,
        ]
        yield run("checkov", command)


def check_files(tools: Toolbox) -> Iterable[Outcome]:
    """Dockerfile, YAML, Prometheus."""
    hadolint = tools.program("hadolint")
    yield run("hadolint: Dockerfile", [hadolint, "--config", HERE / "hadolint.yaml", DEPLOY.parent / "Dockerfile"])
    yield check_compose(tools)
    files = [path for path in DEPLOY.rglob("*.y*ml") if "templates" not in path.parts and not path.is_symlink()]
    yield run("yamllint", [tools.program("yamllint"), "--strict", "-c", HERE / "yamllint.yaml", *files])
    promtool = find("promtool", package="prometheus")
    rules = DEPLOY / "prometheus"
    yield run("promtool check config", [promtool, "check", "config", rules / "prometheus.yml"])
    yield run("promtool check rules", [promtool, "check", "rules", rules / "rules.yml"])
    yield run("promtool test rules", [promtool, "test", "rules", rules / "rules.test.yml"])
    page = subprocess.run(
        [sys.executable, "-m", "deploy.check.metrics_page"], capture_output=True, text=True, check=True
    )
    yield run("promtool check metrics", [promtool, "check", "metrics"], text=page.stdout)


def check_compose(tools: Toolbox) -> Outcome:
    """The compose file as podman-compose reads it, which asks for podman."""
    try:
        find("podman", package=PACKAGES)
    except ToolError as error:
        return Outcome(name=f"compose.yaml: skipped, {error}", fault="")
    command: list[str | Path] = [
        tools.program("podman-compose"),
        "--file",
        DEPLOY / "compose.yaml",
        "config",
        "--quiet",
    ]
    return run("podman-compose config", command)


CHECKS: tuple[Callable[[Toolbox], Iterable[Outcome]], ...] = (check_files, check_chart, check_manifests, check_security)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: all is well; 1: something is not; 2: a program is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=Path, required=True, help="folder for the programs that the checks need")
    tools = Toolbox(parser.parse_args(arguments).tools.absolute())
    failed = 0
    try:
        tools.install()
        for check in CHECKS:
            for outcome in check(tools):
                print(f"{'FAILED' if outcome.fault else 'ok':7}{outcome.name}", flush=True)
                if outcome.fault:
                    failed += 1
                    print(outcome.fault, flush=True)
    except ToolError as error:
        print(f"deploy-check: {error}", file=sys.stderr)
        return 2
    print(f"deploy-check: {failed} checks failed" if failed else "deploy-check: all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
