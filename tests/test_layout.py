"""How querykit/ is laid out: imports point one way, files are short, and `__all__` is what is promised.

What is read is the source: imports inside functions and under TYPE_CHECKING count like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1] / "querykit"
MAX_LINES = 400

# Lowest first. A module imports from its own row or an earlier one, never in a circle.
ROWS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (row, frozenset(modules.split()))
    for row, modules in {
        "values": "callables keys errors state mutation_state pages sharing identity context events index",
        "policy": "prefix_defaults options mutation_options checks retry runtime bound timetable presence",
        "one key, all keys": "entry layers stored flight owner fetching fetched live living query filters cache calls "
        "pending optimistic outcome mutation mutations core",
        "reactions": "result memo view subscribers lifetime follower observer observation observers streams infinite "
        "infinite_observer mutation_observer",
        "the face": "asking bulk mutating paging data cached portal client signals hydration",
        "transport": "http",
        "cluster": "cluster",
        "elsewhere": "persist distributed",
        "for people": "devtools testing cli __main__",
    }.items()
)
EXTRAS = ("typer", "rich", "textual", "jwt", "yaml", "jsonpatch", "aiosqlite", "nicegui", "redis")


@dataclass(frozen=True)
class Import:
    """A name taken from a module of querykit; without a name, the module itself."""

    module: str
    name: str | None
    line: int


class Package:
    """The sources of querykit, by dotted module name."""

    def __init__(self, sources: Mapping[str, str], packages: Iterable[str] = ()):
        self.trees = {module: ast.parse(source) for module, source in sources.items()}
        self.packages = {"querykit", *packages}
        self.lines = {module: len(source.splitlines()) for module, source in sources.items()}

    @classmethod
    def read(cls, root: Path) -> Package:
        sources, packages = {}, []
        for path in sorted(root.rglob("*.py")):
            parts = ("querykit", *path.relative_to(root).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts = parts[:-1]
                packages.append(".".join(parts))
            sources[".".join(parts)] = path.read_text("utf-8")
        return cls(sources, packages)

    @cached_property
    def imports(self) -> dict[str, list[Import]]:
        return {module: list(self.imports_of(module)) for module in self.trees}

    def imports_of(self, module: str) -> Iterator[Import]:
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                found = [Import(alias.name, None, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                source = self.absolute(module, node)
                found = [self.resolved(source, alias.name, node.lineno) for alias in node.names]
            else:
                continue
            yield from (each for each in found if each.module.split(".")[0] == "querykit")

    def absolute(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".") if module in self.packages else module.split(".")[:-1]
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def resolved(self, source: str, name: str, line: int) -> Import:
        submodule = f"{source}.{name}"
        known = submodule in self.trees and source != "querykit"
        return Import(submodule, None, line) if known else Import(source, name, line)

    def promised(self, module: str) -> list[str] | None:
        """The names in `__all__`, or None without one."""
        for node in self.trees[module].body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                return list(ast.literal_eval(node.value))
        return None

    def bound(self, module: str) -> set[str]:
        """The names that the module's top level gives a value."""
        names: set[str] = set()
        for node in ast.walk(ast.Module([*outside_functions(self.trees[module].body)], [])):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    names.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    names.add(name)
                case ast.alias(name=name, asname=asname):
                    names.add(asname or name.split(".")[0])
        return names


def outside_functions(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, with functions and classes emptied."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield type(node)(**{**vars(node), "body": [ast.Pass()], "decorator_list": []})
        else:
            yield node


def unit(module: str) -> str:
    """The part of the table a module belongs to: `http` for querykit.http.session."""
    return [*module.split("."), ""][1]


def row(module: str) -> int | None:
    return next((at for at, (_, units) in enumerate(ROWS) if unit(module) in units), None)


def unplaced(package: Package) -> list[str]:
    return [module for module in package.trees if module != "querykit" and row(module) is None]


def wrong_imports(package: Package) -> list[str]:
    """What each module may not import: the root from inside, and later rows."""
    found = []
    for module, imports in package.imports.items():
        if module == "querykit":
            continue
        for each in imports:
            where = f"{module}, line {each.line}: "
            mine, theirs = row(module), row(each.module)
            if each.module == "querykit":
                found.append(where + "imports the package root; import the module that has the name")
            elif mine is not None and theirs is not None and theirs > mine:
                found.append(
                    where + f"row {mine + 1} ({ROWS[mine][0]}) imports {each.module}"
                    f" of row {theirs + 1} ({ROWS[theirs][0]})"
                )
    return found


def circle(package: Package) -> list[str]:
    """A circle of files, or else of the units of the table, without the root; empty if there is none."""
    for name in (str, unit):
        graph: dict[str, set[str]] = {}
        for module, imports in package.imports.items():
            if module != "querykit":
                theirs = {name(each.module) for each in imports} - {name("querykit"), "querykit"}
                graph.setdefault(name(module), set()).update(theirs)
        if name is unit:
            graph = {one: others - {one} for one, others in graph.items()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            return list(error.args[1])
    return []


def private_use(package: Package) -> list[str]:
    """Where cluster/ takes from the rest of querykit what that does not promise."""
    found = []
    for module, imports in package.imports.items():
        for each in imports:
            taken = f"{each.module}.{each.name or ''}".strip(".")
            if unit(module) != "cluster" or unit(each.module) in ("cluster", ""):
                continue
            private = any(part.startswith("_") for part in each.module.split("."))
            promised = package.promised(each.module) if each.module in package.trees else []
            if private or (each.name is not None and each.name not in (promised or [])):
                found.append(f"{module}, line {each.line}: {taken} is not in an __all__ of querykit")
    return found


def wrong_promises(package: Package) -> list[str]:
    """Where `__all__` and the module's names do not fit."""
    found = []
    for module in package.trees:
        if any(part.startswith("_") for part in module.split(".")):
            continue
        promised = package.promised(module)
        if promised is None:
            found.append(f"{module}: has no __all__; with nothing to promise, __all__: list[str] = []")
            continue
        if len(set(promised)) < len(promised):
            found.append(f"{module}: a name stands twice in __all__")
        if private := [name for name in promised if name.startswith("_")]:
            found.append(f"{module}: private names in __all__: {private}")
        if missing := sorted(set(promised) - package.bound(module)):
            found.append(f"{module}: in __all__ but not in the module: {missing}")
        if module in package.packages:
            found.extend(wrong_face(package, module, set(promised)))
    return found


def wrong_face(package: Package, module: str, promised: set[str]) -> Iterator[str]:
    """An `__init__` is imports and `__all__`, no more and no less, of names that their modules promise."""
    for node in package.trees[module].body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(node)
        if not (is_docstring or is_all or isinstance(node, ast.Import | ast.ImportFrom)):
            yield f"{module}, line {node.lineno}: an __init__ is imports and __all__, nothing else"
    imported = package.bound(module) - {"__all__", "annotations"}
    if hidden := sorted(name for name in imported - promised if not name.startswith("_")):
        yield f"{module}: imported but not in __all__: {hidden}"
    for each in package.imports[module]:
        if each.name in promised and each.name not in (package.promised(each.module) or []):
            yield f"{module}: promises {each.name}, which {each.module}.__all__ does not"


# --- querykit itself ---

QUERYKIT = Package.read(ROOT)


def test_every_module_has_its_place():
    assert not unplaced(QUERYKIT), "Give these a row in ROWS, at the top of tests/test_layout.py."


def test_imports_point_one_way():
    assert not wrong_imports(QUERYKIT)


def test_imports_make_no_circle():
    assert not circle(QUERYKIT)


def test_cluster_uses_only_what_is_promised():
    assert not private_use(QUERYKIT)


def test_all_is_what_each_module_has():
    assert not wrong_promises(QUERYKIT)


def test_files_are_short():
    assert not {module: lines for module, lines in QUERYKIT.lines.items() if lines > MAX_LINES}


def test_the_core_imports_without_any_extra():
    rows = ROWS[: [name for name, _ in ROWS].index("transport") + 1]
    core = [name for name in QUERYKIT.trees if name == "querykit" or any(unit(name) in units for _, units in rows)]
    code = f"""
        import importlib, sys
        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {EXTRAS!r}:
                    raise ModuleNotFoundError("blocked: " + name, name=name)
        sys.meta_path.insert(0, Blocked())
        for module in {core!r}:
            importlib.import_module(module)
    """
    command = [sys.executable, "-W", "error", "-c", dedent(code)]
    ended = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 0, ended.stderr


# --- the readers above see what they should ---


def package(**sources: str) -> Package:
    return Package(
        {
            "querykit" + (f".{name.replace('__', '.')}" if name != "root" else ""): text
            for name, text in sources.items()
        },
        packages=["querykit.http", "querykit.cluster"],
    )


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("import querykit.cache", id="plain"),
        pytest.param("from querykit.cache import QueryCache", id="name"),
        pytest.param("from .cache import QueryCache", id="relative"),
        pytest.param("if TYPE_CHECKING:\n    from querykit.cache import QueryCache", id="types"),
        pytest.param("def f():\n    from querykit.cache import QueryCache", id="inside-a-function"),
    ],
)
def test_an_upward_import_is_found(line):
    (found,) = wrong_imports(package(keys=line, cache=""))
    assert found.endswith("row 1 (values) imports querykit.cache of row 3 (one key, all keys)")


@pytest.mark.parametrize("line", ["import querykit", "from querykit import QueryClient", "from . import keys"])
def test_an_import_of_the_root_is_found(line):
    (found,) = wrong_imports(package(root="", state=line, keys=""))
    assert "imports the package root" in found


def test_a_circle_of_files_is_found():
    assert circle(package(query="import querykit.cache", cache="from querykit.query import Query"))
    assert circle(package(http__session="from . import errors", http__errors="import querykit.http.session"))
    assert not circle(package(query="import querykit.keys", cache="import querykit.query", keys=""))


def test_a_circle_of_packages_is_found():
    testing = {"testing__store": "import querykit.cli.demo", "testing__faults": ""}
    assert circle(package(**testing, cli__demo="", cli__options="import querykit.testing.faults"))


def test_a_module_without_a_place_is_found():
    assert unplaced(package(root="", keys="", types="")) == ["querykit.types"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from querykit.keys import QueryKey", 0),
        ("from querykit.keys import hidden", 1),
        ("from querykit.keys import _private", 1),
        ("from querykit.http._pool import Pool", 1),
        ("from querykit.cluster.auth import _own", 0),
    ],
)
def test_a_private_name_in_cluster_is_found(line, expected):
    keys = "__all__ = ['QueryKey']\nQueryKey = hidden = _private = 1"
    pool = "__all__ = ['Pool']\nclass Pool: pass"
    sources = {"keys": keys, "http___pool": pool, "cluster__auth": "", "cluster__requests": line}
    assert len(private_use(package(**sources))) == expected


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x = 1", "has no __all__"),
        ("__all__ = ['x']", "not in the module"),
        ("__all__ = ['x', 'x']\nx = 1", "twice"),
        ("__all__ = ['_x']\n_x = 1", "private"),
        ("__all__: list[str] = []", None),
        ("__all__ = ['f', 'x']\ndef f(): inner = 1\nif True: x = 1", None),
        ("__all__ = ['inner']\ndef f(): inner = 1", "not in the module"),
    ],
)
def test_a_wrong_all_is_found(source, problem):
    found = wrong_promises(package(keys=source))
    assert (problem in found[0]) if problem else not found


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("'''Doc.'''\nfrom querykit.keys import QueryKey\n__all__ = ['QueryKey']", None),
        ("from querykit.keys import QueryKey\n__all__ = []", "imported but not in __all__"),
        ("from querykit.keys import hidden\n__all__ = ['hidden']", "which querykit.keys.__all__ does not"),
        ("x = 1\n__all__ = ['x']", "nothing else"),
    ],
)
def test_a_root_that_is_more_than_imports_is_found(source, problem):
    found = wrong_promises(package(root=source, keys="__all__ = ['QueryKey']\nQueryKey = hidden = 1"))
    assert (problem in found[0]) if problem else not found
