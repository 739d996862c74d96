"""The rooms import each other in one direction only, and the client stays light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("dragoman", "service", "exporter", "loadtests", "examples", "proto", "tests")
# Anybody inside `service` may import these.
LEAVES = frozenset(
    {
        "service.errors",
        "service.config",
        "service.bundle",
        "service.available_memory",
        "service.cpu",
        "service.huge_pages",
        "service.malloc",
        "service.graph_names",
    }
)
# What each part of `service` may import of the rest of `service`, beside itself and the leaves.
SERVICE_DIRECTIONS: dict[str, frozenset[str]] = {
    "service.errors": frozenset(),
    "service.config": frozenset(),
    "service.bundle": frozenset(),
    "service.available_memory": frozenset(),
    "service.cpu": frozenset(),
    "service.huge_pages": frozenset(),
    "service.malloc": frozenset(),
    "service.graph_names": frozenset(),
    "service.tokenizer": frozenset(),
    "service.segmentation": frozenset(),
    "service.logging": frozenset(),
    "service.health_probe": frozenset(),
    "service.engine": frozenset(),
    "service.runtime": frozenset({"service.engine"}),
    "service.metrics": frozenset({"service.engine"}),
    "service.translator": frozenset({"service.engine", "service.tokenizer", "service.segmentation"}),
    "service.tokens": frozenset(),
    "service.rpc": frozenset(
        {"service.translator", "service.engine", "service.metrics", "service.logging", "service.tokens"}
    ),
    "service.tracing": frozenset({"service.translator"}),
    "service.page": frozenset({"service.rpc", "service.metrics"}),
    "service.client": frozenset(),
    "service.models": frozenset(
        {
            "service.translator",
            "service.runtime",
            "service.engine",
            "service.tokenizer",
            "service.metrics",
            "service.logging",
        }
    ),
    "service.bootstrap": frozenset(
        {
            "service.rpc",
            "service.models",
            "service.translator",
            "service.runtime",
            "service.engine",
            "service.metrics",
            "service.logging",
            "service.tracing",
            "service.page",
            "service.signals",
        }
    ),
    "service.signals": frozenset(),
    "service.__main__": frozenset({"service.bootstrap", "service.logging"}),
}
EXPORTER_MAY_IMPORT = LEAVES - {"service.config"} | {"service.engine", "service.runtime", "service.tokenizer"}
BENCH_MAY_IMPORT = LEAVES | {"service.engine", "service.runtime", "service.tokenizer"}
# What parts of loadtests other than clients may import of `service`.
LOADTESTS_MAY_IMPORT: dict[str, frozenset[str]] = {
    "loadtests.bench": BENCH_MAY_IMPORT | {"service.client"},  # what the edge adds is seen from outside
    "loadtests.sleeping_server": BENCH_MAY_IMPORT | {"service.bootstrap"},
    "loadtests.peers": frozenset({"service.errors", "service.tokenizer"}),
}
CLIENT_MAY_IMPORT = frozenset({"grpc", "google", "dragoman", "matplotlib"})
FORBIDDEN_IN_SERVICE = frozenset({"exporter", "torch", "transformers", "onnx", "onnxscript", "loadtests", "examples"})


def modules_of(package: str) -> Iterator[tuple[str, Path]]:
    """Dotted name and path of each module of a top-level ``package``."""
    for path in sorted((REPOSITORY / package).rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(name: str, path: Path) -> set[str]:
    """Dotted names that a module imports anywhere in its text, lazy and type-checking imports included."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{source}.{alias.name}" for alias in node.names)
    return found


def top_level(imported: set[str]) -> set[str]:
    """The first parts of dotted names."""
    return {name.partition(".")[0] for name in imported}


def parts_of(imported: set[str], package: str) -> set[str]:
    """The parts (second level) of ``package`` among ``imported``, such as service.engine."""
    return {".".join(name.split(".")[:2]) for name in imported if name.startswith(f"{package}.")}


def service_part(name: str) -> str:
    """The part of service a module belongs to: service.engine.scheduler -> service.engine."""
    return ".".join(name.split(".")[:2])


def third_party_of(imported: set[str]) -> set[str]:
    """Top-level names that are neither of the standard library nor ours."""
    return {name for name in top_level(imported) if name not in sys.stdlib_module_names and name not in ROOMS}


def test_service_imports_run_one_way() -> None:
    """__main__ -> bootstrap -> rpc -> translator -> engine, bootstrap -> models -> runtime -> engine; the leaves."""
    wrong = []
    for name, path in modules_of("service"):
        part = service_part(name)
        if part == "service":
            continue
        if part not in SERVICE_DIRECTIONS:
            wrong.append(f"{part} is a new part of service: say in this test what it may import")
            continue
        foreign = parts_of(imports_of(name, path), "service") - {part} - LEAVES - SERVICE_DIRECTIONS[part]
        wrong += [f"{name} must not import {other}" for other in sorted(foreign)]
    assert wrong == []


def test_service_never_imports_the_exporter_or_torch() -> None:
    """The serving image holds no torch, so nothing in service may ask for it."""
    wrong = {name: top_level(imports_of(name, path)) & FORBIDDEN_IN_SERVICE for name, path in modules_of("service")}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_engine_knows_numpy_and_nothing_else() -> None:
    """The scheduler stays testable with a fake runner: no grpc, no onnxruntime, no metrics library, no text."""
    for name, path in modules_of("service/engine"):
        imported = imports_of(name, path)
        assert third_party_of(imported) <= {"numpy"}, name
        assert parts_of(imported, "service") <= {"service.engine", "service.errors"}, name


def test_the_client_needs_grpc_and_protobuf_only() -> None:
    """The base install is the client: grpc, protobuf and the stubs; matplotlib for a heat map if it is asked for."""
    for name, path in modules_of("service/client"):
        imported = imports_of(name, path)
        assert third_party_of(imported) <= CLIENT_MAY_IMPORT, name
        assert parts_of(imported, "service") <= {"service.client", "service.errors"}, name


def test_the_exporter_sees_only_what_serves() -> None:
    """The exporter proves and calibrates with the code that serves, and knows nothing of the edge."""
    for name, path in modules_of("exporter"):
        imported = imports_of(name, path)
        assert parts_of(imported, "service") <= EXPORTER_MAY_IMPORT, name
        assert not top_level(imported) & {"loadtests", "examples", "dragoman", "grpc"}, name


def test_load_tests_are_clients() -> None:
    """A load test sees the service from outside: its client and its stubs. The bench measures the library, and the
    sleeping server is the service around another runner."""
    client = frozenset({"service.client", "service.errors"})
    for name, path in modules_of("loadtests"):
        imported = imports_of(name, path)
        assert "exporter" not in top_level(imported), name
        part = ".".join(name.split(".")[:2])
        assert parts_of(imported, "service") <= LOADTESTS_MAY_IMPORT.get(part, client), name


def test_the_product_imports_no_peer() -> None:
    """CTranslate2 and transformers, which tests and benchmarks compare us with, are no part of us."""
    for room in ("dragoman", "service", "exporter", "examples"):
        for name, path in modules_of(room):
            assert not top_level(imports_of(name, path)) & {"ctranslate2", "transformers"}, name


def test_nothing_imports_the_tests() -> None:
    """Product code never leans on test code."""
    for room in ROOMS:
        for name, path in modules_of(room):
            assert room == "tests" or "tests" not in top_level(imports_of(name, path)), name


def test_every_room_is_looked_at() -> None:
    """The rules above read real modules: a renamed room would leave them vacuous."""
    for room in ("service", "service/engine", "service/client", "exporter", "loadtests", "dragoman"):
        assert list(modules_of(room)), room


def test_stubs_and_service_keep_their_packages_empty() -> None:
    """Importing a package runs no code of its siblings."""
    for package in ("dragoman", "dragoman/v1", "dragoman/google_v3", "service"):
        path = REPOSITORY / package / "__init__.py"
        if path.exists():
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body), package


def test_importing_the_client_stays_light() -> None:
    """`import service.client` loads neither numpy nor a machine-learning library nor a server's part."""
    program = (
        "import sys, service.client\n"
        "heavy = {'numpy', 'onnxruntime', 'torch', 'pydantic', 'sentencepiece', 'matplotlib', 'prometheus_client'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
