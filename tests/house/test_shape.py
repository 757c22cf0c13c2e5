"""The house rules that a program can read off the source: sizes, names, docstrings, state."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "core", "p2p", "packaging", "assets")
SKIPPED = {"node_modules", "out", "cache", "build", "dist", "__pycache__"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
MAX_PARAMETERS = 5
MAX_POSITIONAL = 2
MAX_NESTING = 3
QT_SIGNATURES = {"paint", "createEditor", "setModelData", "updateEditorGeometry", "editorEvent", "helpEvent", "setData"}
BANNED = {"util", "helper", "manager", "common", "misc", "base", "handler", "processor", "wrapper", "data", "info"}
MAKERS = {"list", "dict", "set", "defaultdict", "Counter", "deque", "OrderedDict", "bytearray"}
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MACHINE_PATHS = re.compile(r"/(?:work|root|home/[a-z]+)/|C:\\\\Users\\\\")
UNFINISHED = re.compile(r"\b(TODO|FIXME)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*rooms: str) -> list[Path]:
    found = (path for room in rooms for path in sorted((ROOT / room).rglob("*.py")))
    return [path for path in found if not SKIPPED & set(path.relative_to(ROOT).parts)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


SOURCES = [pytest.param(path, id=name_of(path)) for path in files(*ROOMS)]
EVERYTHING = [pytest.param(path, id=name_of(path)) for path in files(*ROOMS, "tests")]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, FUNCTIONS))


def words_of(name: str) -> set[str]:
    """The words in a snake_case or CamelCase name, in the singular too."""
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return words | {word.removesuffix("s") for word in words}


def nesting(node: ast.AST, depth: int = 0) -> int:
    """How deep blocks lie in blocks; an elif is as deep as its if, an inner function begins anew."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and [child] == node.orelse
        deepest = max(deepest, nesting(child, depth + (isinstance(child, BLOCKS) and not is_elif)))
    return deepest


@pytest.mark.parametrize("path", EVERYTHING)
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", SOURCES)
def test_no_function_is_longer_than_40_lines(path: Path) -> None:
    sizes = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions(path)}
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", SOURCES)
def test_no_function_takes_more_than_five_parameters_or_two_by_position(path: Path) -> None:
    wrong = []
    for node in functions(path):
        positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
        is_too_many = len(positional) + len(node.args.kwonlyargs) > MAX_PARAMETERS
        is_given = (node.name.startswith("__") and node.name != "__init__") or node.name in QT_SIGNATURES
        if is_too_many or (len(positional) > MAX_POSITIONAL and not is_given):
            wrong.append(f"{node.name}({', '.join(positional)})")
    assert wrong == []


@pytest.mark.parametrize("path", SOURCES)
def test_blocks_nest_three_deep_at_most(path: Path) -> None:
    depths = {node.name: nesting(node) for node in functions(path)}
    assert {name: depth for name, depth in depths.items() if depth > MAX_NESTING} == {}


@pytest.mark.parametrize("path", SOURCES)
def test_no_file_or_class_name_holds_an_empty_word(path: Path) -> None:
    names = [path.stem, *(node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef))]
    assert [name for name in names if BANNED & words_of(name)] == []


@pytest.mark.parametrize("path", SOURCES)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree) or (path.name == "__init__.py" and not tree.body)


@pytest.mark.parametrize("path", SOURCES)
def test_every_public_function_and_class_of_a_module_says_its_contract(path: Path) -> None:
    tops = [node for node in tree_of(path).body if isinstance(node, (*FUNCTIONS, ast.ClassDef))]
    assert [n.name for n in tops if not n.name.startswith("_") and not ast.get_docstring(n)] == []


@pytest.mark.parametrize("path", [p for p in SOURCES if p.values[0].name == "__init__.py"])  # type: ignore[attr-defined]
def test_no_package_hands_on_names_of_others(path: Path) -> None:
    tree = tree_of(path)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    taken = {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert taken - used - {"annotations"} == set()
    assert "__all__" not in used


@pytest.mark.parametrize("path", SOURCES)
def test_no_module_holds_state_that_can_change(path: Path) -> None:
    tree = tree_of(path)
    changed = [name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names]
    assert [*changed, *mutable_names(tree)] == []


def mutable_names(tree: ast.Module) -> list[str]:
    """Names at module level that hold something mutable and are not written as constants."""
    names = []
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not is_mutable(node.value):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names += [t.id for t in targets if isinstance(t, ast.Name) and not t.id.lstrip("_").isupper()]
    return names


def is_mutable(value: ast.expr | None) -> bool:
    """Whether an expression makes a list, dict, set or the like."""
    is_made = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in MAKERS
    return is_made or isinstance(value, MUTABLE)


@pytest.mark.parametrize("path", SOURCES)
def test_nothing_is_left_for_later(path: Path) -> None:
    assert UNFINISHED.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [*SOURCES, *(pytest.param(p, id=p.name) for p in ROOT.glob("*.md"))])
def test_nothing_names_a_place_on_somebodys_machine(path: Path) -> None:
    assert MACHINE_PATHS.findall(path.read_text(encoding="utf-8")) == []
