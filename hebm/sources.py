"""Read information about a plugin from its source, without importing it.

This gives its location, the first line of its docstring, and obvious reasons why it cannot be imported. So a listing of
all plugins takes milliseconds, not the seconds of `import torch`.
"""

from __future__ import annotations

import ast
import importlib.util
import stat
import tokenize
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import attrs

from hebm.suggest import did_you_mean

_LARGEST = 2**20
"""The largest source that a listing reads, in bytes."""


@attrs.frozen
class Glance:
    """Information about an object that was not imported.

    Arguments:
        file: its source file; None if unknown.
        line: the line that defines or names it; the first decorator's if it has decorators.
        summary: the first line of its docstring.
        problem: the reason why it cannot be imported. None does not promise that it can.
    """

    file: str | None = None
    line: int | None = None
    summary: str = ""
    problem: str | None = None


def glance(module: str, name: str) -> Glance:
    """Return information about the object `name` from the source of `module`."""
    try:
        spec = find_module(module)
    except Exception:  # finders of third parties may raise anything
        return Glance()
    if spec is None:
        return Glance(problem=f"module {module!r} not found")
    if spec.origin is None or not spec.origin.endswith(".py"):
        return Glance(file=spec.origin)
    if not is_read(Path(spec.origin)):
        return Glance(spec.origin)
    try:
        tree = parse(spec.origin)
    except SyntaxError as error:
        return Glance(spec.origin, error.lineno, problem=f"SyntaxError: {error.msg} (line {error.lineno})")
    except UnicodeDecodeError as error:
        return Glance(spec.origin, problem=f"its source cannot be decoded: {error}")
    except (RecursionError, MemoryError):
        return Glance(spec.origin, problem="its source is too long or too deeply nested for Python's parser")
    except (OSError, ValueError) as error:
        return Glance(spec.origin, problem=f"its source cannot be read: {error}")
    return _look(tree, spec.origin, name)


def is_read(source: Path) -> bool:
    """Return whether a listing may read a source. Reading a pipe would never end, and a huge file takes long."""
    try:
        found = source.stat()
    except OSError:
        return True  # reading it will raise the reason
    return stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST


def parse(file: str) -> ast.Module:
    """Return the statements of a source file. Raises what reading or parsing it raises."""
    with tokenize.open(file) as source:
        return ast.parse(source.read())


def find_module(module: str) -> ModuleSpec | None:
    """Return the spec of a module. Unlike `importlib.util.find_spec`, it imports no parent package."""
    top, *rest = module.split(".")
    spec, name = importlib.util.find_spec(top), top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec


def _look(tree: ast.Module, file: str, name: str) -> Glance:
    absent = next((needed for needed in _imports(tree) if not _is_installed(needed)), None)
    problem = f"it needs {absent!r}, which is not installed" if absent else None
    names = _names(tree)
    node = names.get(name.partition(".")[0])
    if node is None:
        if problem is None and not names.keys() & {"*", "__getattr__"}:
            problem = f"its module has no {name!r}{did_you_mean(name, names)}"
        return Glance(file, problem=problem)
    documented = isinstance(node, (ast.ClassDef, ast.FunctionDef))
    docstring = ast.get_docstring(node) if documented else None
    decorators = getattr(node, "decorator_list", [])
    return Glance(file, (decorators or [node])[0].lineno, (docstring or "").split("\n")[0], problem)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the top-level packages that a module imports unconditionally."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except Exception:  # finders of third parties may raise anything
        return True


def _names(tree: ast.Module) -> dict[str, Any]:
    """Return the nodes that bind the names of a module, including those inside `if`, `try` and `with`."""
    names: dict[str, Any] = {}
    pending: list[ast.AST] = list(tree.body)
    for node in pending:  # grows in the loop
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.setdefault(node.name, node)
        elif isinstance(node, ast.alias):
            names.setdefault(node.asname or node.name.partition(".")[0], node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, node)
        else:
            pending.extend(ast.iter_child_nodes(node))
    return names
