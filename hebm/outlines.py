"""Make a recipe class from its source, without running the modules that define it.

The keys of a recipe are plain values, but importing it takes the seconds of `import torch`. An outline is the same
class, made from its statement alone: other names of its module are looked up in the source when they are needed. Names
of modules that are already imported, and of the standard library, are the objects themselves; those of other libraries
are `Unread`. `hebm.registry.reading` makes `find` return outlines.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hebm.sources import find_module, is_read, parse

_KEPT_DECORATORS = {"abstractmethod", "classmethod", "property", "staticmethod"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Unreadable(Exception):
    """An object that cannot be made from source; it must be imported."""


class Unread:
    """Stands for a value that needs a library. It may be stored, but not used where Python needs the value itself."""

    def _unread(self, *_: Any, **__: Any) -> Unread:
        return self

    def _raise(self, *_: Any) -> Any:
        raise Unreadable("a value that needs a library is used")

    def __getattr__(self, name: str) -> Unread:
        """Return a stand-in for an attribute."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    __call__ = __getitem__ = __or__ = __ror__ = _unread
    __bool__ = __contains__ = __eq__ = __iter__ = __len__ = __mro_entries__ = __repr__ = _raise
    __hash__ = object.__hash__


class Outlines:
    """Makes objects from source, each at most once.

    Arguments:
        packages: the top-level packages whose source is read. Those of libraries are not.
    """

    def __init__(self, packages: Collection[str]) -> None:
        self._packages = packages
        self._sources: dict[str, _Source] = {}

    def module(self, name: str) -> Any:
        """Return a module, or what stands for it: something with the same attributes."""
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            return importlib.import_module(name)
        read = top in self._packages
        if name in sys.modules and not (read and hasattr(sys.modules[name], "__getattr__")):  # which may import
            return sys.modules[name]
        if not read:
            return Unread()
        if name not in self._sources:
            self._sources[name] = _Source(name, self)
        return _Attributes(self._sources[name])

    def get(self, module: str, name: str) -> Any:
        """Return the object `name` of a module. Raises `Unreadable` if the source does not tell what it is."""
        try:
            return getattr(self.module(module), name)
        except Exception as error:  # no such name, or whatever finding, reading or parsing the source raises
            raise Unreadable(f"{module}:{name}: {error}") from error


class _Attributes:
    """The attributes of a module that is read from source."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        try:
            return self._source[name]
        except KeyError as error:
            raise AttributeError(name) from error


class _Source(dict[str, Any]):
    """The global names of a module, each made when it is first looked up.

    Functions find their global names by `__missing__`, since these are not an exact `dict`.
    """

    def __init__(self, module: str, outlines: Outlines) -> None:
        super().__init__(__name__=module, __builtins__=__builtins__)
        spec = find_module(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py") or not is_read(Path(spec.origin)):
            raise Unreadable(f"{module} has no source")
        self._module, self._outlines, self._file = module, outlines, spec.origin
        self._package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
        self._statements = _statements(parse(spec.origin))

    def __missing__(self, name: str) -> Any:
        if name not in self._statements:
            return self._submodule(name)
        self[name] = Unread()  # while it is made, and if that fails
        try:
            self[name] = self._made(self._statements[name], name)
        except Exception:  # whatever needs the name raises Unreadable, and importing the module shows the reason
            self[name] = Unread()
        return self[name]

    def _submodule(self, name: str) -> Any:
        path = f"{self._module}.{name}"
        if self._package != self._module or find_module(path) is None:
            raise KeyError(name)
        return self._outlines.module(path)

    def _made(self, statement: ast.stmt | None, name: str) -> Any:
        if isinstance(statement, ast.Import):
            alias = next(one for one in statement.names if name == (one.asname or one.name.partition(".")[0]))
            return self._outlines.module(alias.name if alias.asname else name)
        if isinstance(statement, ast.ImportFrom):
            alias = next(one for one in statement.names if name == (one.asname or one.name))
            return self._outlines.get(self._absolute(statement), alias.name)
        if statement is None:
            raise Unreadable(f"{self._module} binds {name!r} more than once")
        return self._executed(statement, name)

    def _absolute(self, statement: ast.ImportFrom) -> str:
        above = self._package.rsplit(".", statement.level - 1)[0] if statement.level else ""
        return ".".join(filter(None, (above, statement.module)))

    def _executed(self, statement: ast.stmt, name: str) -> Any:
        stripped = _Stripped().visit(statement)
        for needed in _evaluated_names(stripped):
            if needed in self._statements:
                self[needed]  # class bodies do not call __missing__
        code = compile(ast.Module([stripped], []), self._file, "exec", dont_inherit=True)
        exec(code, self)
        return self[name]


def _statements(tree: ast.Module) -> dict[str, ast.stmt | None]:
    """Return the statement that binds each name of a module; None if several do.

    Raises `Unreadable` for a module that does more than define names.
    """
    found: dict[str, ast.stmt | None] = {}
    for statement in tree.body:
        for name in _bound(statement):
            found[name] = None if name in found else statement
    return found


def _bound(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.Import(names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
        case ast.ImportFrom(_, names):
            yield from (alias.asname or alias.name for alias in names)
        case ast.ClassDef(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
            yield name
        case ast.Assign() | ast.AnnAssign():
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
        case ast.Expr(ast.Constant()) | ast.If(ast.Name("TYPE_CHECKING")):
            pass
        case _:
            raise Unreadable(f"line {statement.lineno} is not a definition")


class _Stripped(ast.NodeTransformer):
    """Removes what is evaluated when functions are defined, annotations and decorators, and the types of `ClassVar`."""

    def visit_AnnAssign(self, field: ast.AnnAssign) -> ast.AnnAssign:
        if isinstance(field.annotation, ast.Subscript) and getattr(field.annotation.value, "id", "") == "ClassVar":
            field.annotation = field.annotation.value
        return field

    def visit_FunctionDef(self, function: ast.FunctionDef) -> ast.FunctionDef:
        _strip(function)
        return function

    def visit_AsyncFunctionDef(self, function: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        _strip(function)
        return function


def _strip(function: _Function) -> None:
    function.returns = None
    for argument in ast.walk(function.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    function.decorator_list = [one for one in function.decorator_list if getattr(one, "id", None) in _KEPT_DECORATORS]


def _evaluated_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that executing a statement loads, without the bodies of functions."""
    if isinstance(node, ast.Name):
        yield node.id
    inside = ("body",) if isinstance(node, (_Function, ast.Lambda)) else ()
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for child in children if field not in inside else ():
            if isinstance(child, ast.AST):
                yield from _evaluated_names(child)
