"""Where every value of a config was written: dotted path to file and line.

The files of a chain are read with ``ast`` only; nothing of them is run. What a
file computes in ways that cannot be followed is located at its statement.
"""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_BASE, _DELETE = "_base_", "_delete_"
_BASE_REFERENCE = re.compile(r"\{\{\s*_base_\.(\w+)")
#: Stands for a value that is not a constant in the file.
UNKNOWN = object()


@dataclass(frozen=True)
class Origin:
    """A place in a file; ``line`` 0 stands for the command line.

    Args:
        file (str): path as shown to the user.
        line (int): counted from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


#: Origin of everything set by ``--cfg-options``.
COMMAND_LINE = Origin("--cfg-options", 0)


@dataclass(frozen=True)
class Node:
    """One value of the config tree with its origin.

    Args:
        origin (Origin): where the value was written.
        children (dict[str, Node] | None): of a dict or list; None for a leaf.
        value (Any): a leaf's constant, ``UNKNOWN`` if it is computed.
        is_list (bool): whether ``children`` are list items ("0", "1", ...).
        delete (bool): whether the dict says ``_delete_=True``.
        stale (dict[str, Origin]): keywords that survived a change of ``type``.
        old_type (Any): the ``type`` that those keywords were written for.
    """

    origin: Origin
    children: dict[str, Node] | None = None
    value: Any = UNKNOWN
    is_list: bool = False
    delete: bool = False
    stale: dict[str, Origin] = field(default_factory=dict)
    old_type: Any = None

    @property
    def is_dict(self) -> bool:
        """Whether the node is a dict."""
        return self.children is not None and not self.is_list

    def get(self, key: str) -> Node | None:
        """Return the child of that name, None if there is none."""
        return None if self.children is None else self.children.get(key)


def from_value(value: Any, origin: Origin) -> Node:
    """Build a node from a Python value that comes from one place."""
    if isinstance(value, dict):
        children = {str(k): from_value(v, origin) for k, v in value.items()}
        delete = children.pop(_DELETE, None)
        return Node(origin, children, delete=bool(delete and delete.value))
    if isinstance(value, (list, tuple)):
        items = {str(i): from_value(v, origin) for i, v in enumerate(value)}
        return Node(origin, items, is_list=True)
    return Node(origin, value=value)


def merge(child: Node, base: Node | None, allow_list_keys: bool = False) -> Node:
    """Merge as mmengine does, and note keywords that outlive their ``type``."""
    mergeable = base is not None and (base.is_dict or allow_list_keys)
    if base is None or base.children is None or not child.is_dict or not mergeable:
        return child
    if child.delete:
        return replace(child, delete=False)
    children = dict(base.children)
    for key, node in child.children.items():
        children[key] = merge(node, children.get(key), allow_list_keys)
    stale = {k: o for k, o in base.stale.items() if k not in child.children}
    old_type, old, new = base.old_type, base.get("type"), child.get("type")
    if old is not None and new is not None and _differ(old, new):
        # Every type may say random_init.
        kept = {k: n.origin for k, n in base.children.items() if k != "random_init"}
        stale |= {k: o for k, o in kept.items() if k not in child.children}
        old_type = old.value
    return replace(
        base, children=children, stale=stale, old_type=old_type, delete=False
    )


def _differ(old: Node, new: Node) -> bool:
    if UNKNOWN in (old.value, new.value):
        return old.origin != new.origin and old.value is not new.value
    return old.value != new.value


class _FileReader:
    """Read one file of a chain and, first, the files it inherits from."""

    def __init__(self, path: str, trace: ConfigTrace, seen: tuple[str, ...]) -> None:
        self.path, self.trace, self.seen = path, trace, (*seen, path)
        self.shown = shown_path(path)
        self.base: dict[str, Node] = {}
        self.own: dict[str, Node] = {}
        self.env: dict[str, Node] = {}

    def read(self) -> dict[str, Node]:
        """Return the top-level nodes after merging with the bases."""
        text = Path(self.path).read_text(encoding="utf-8")
        module = ast.parse(text, filename=self.path)
        self.trace.used_names.update(_BASE_REFERENCE.findall(text))
        self.trace.used_names.update(_loaded_names(module))
        self._statements(module.body)
        if self.shown not in self.trace.files:
            self.trace.files.append(self.shown)
        own = Node(Origin(self.shown, 1), self.own)
        return merge(own, Node(own.origin, self.base)).children

    def _statements(self, body: list[ast.stmt]) -> None:
        for item in body:
            if isinstance(item, ast.Assign):
                for target in item.targets:
                    self._assign(target, item.value)
            elif isinstance(item, ast.AnnAssign) and item.value is not None:
                self._assign(item.target, item.value)
            elif isinstance(item, ast.With):
                if _is_read_base(item):
                    self._read_base(item)
                else:
                    self._statements(item.body)
            elif isinstance(item, (ast.If, ast.For, ast.While)):
                self._statements(item.body + item.orelse)
            elif isinstance(item, ast.Expr):
                self._update_call(item.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            for element in target.elts:
                if isinstance(element, ast.Name):
                    self._bind(element.id, Node(self._at(element)))
        elif isinstance(target, ast.Name) and target.id == _BASE:
            self._inherit(ast.literal_eval(value))
        elif isinstance(target, ast.Name):
            self._bind(target.id, self._node(value))
        elif isinstance(target, (ast.Subscript, ast.Attribute)):
            self._store(target, self._node(value))

    def _bind(self, name: str, node: Node) -> None:
        self.env[name] = self.own[name] = node

    def _store(self, target: ast.expr, node: Node) -> None:
        """Follow ``model['connector'] = node``."""
        keys: list[str] = []
        while isinstance(target, (ast.Subscript, ast.Attribute)):
            if isinstance(target, ast.Attribute):
                keys.append(target.attr)
            elif isinstance(target.slice, ast.Constant):
                keys.append(str(target.slice.value))
            else:
                return
            target = target.value
        if isinstance(target, ast.Name) and target.id in self.env:
            changed = _with_child(self.env[target.id], keys[::-1], node)
            self._bind(target.id, changed)

    def _update_call(self, call: ast.expr) -> None:
        """Follow ``model.update(dict(...))`` and ``model.merge(...)``."""
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            return
        owner = call.func.value
        if call.func.attr not in ("update", "merge") or not isinstance(owner, ast.Name):
            return
        if owner.id in self.env:
            node = self._dict_call(call)
            self._bind(owner.id, merge(node, self.env[owner.id]))

    def _inherit(self, bases: str | list[str]) -> None:
        for base in [bases] if isinstance(bases, str) else bases:
            if "::" in base:
                self.trace.external.append(base)
                continue
            path = os.path.normpath(os.path.join(os.path.dirname(self.path), base))
            self.base.update(self._read_other(path))

    def _read_other(self, path: str) -> dict[str, Node]:
        if path in self.seen:
            raise ValueError(f"{self.shown}: the chain of _base_ files is a circle.")
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{self.shown}: inherits from '{shown_path(path)}', which is no file."
            )
        return _FileReader(path, self.trace, self.seen).read()

    def _read_base(self, block: ast.With) -> None:
        self.trace.dialects[self.shown] = "lazy"
        for item in block.body:
            if not isinstance(item, ast.ImportFrom) or item.level == 0:
                continue
            folder = os.path.dirname(self.path)
            parts = [".."] * (item.level - 1) + (item.module or "").split(".")
            path = os.path.normpath(os.path.join(folder, *parts)) + ".py"
            nodes = self._read_other(path)
            for alias in item.names:
                if alias.name == "*":
                    self.base.update(nodes)
                    self.env.update(nodes)
                elif alias.name in nodes:
                    self._bind(alias.asname or alias.name, nodes[alias.name])

    def _at(self, item: ast.AST) -> Origin:
        return Origin(self.shown, item.lineno)

    def _node(self, value: ast.expr) -> Node:
        """Turn an expression into a node."""
        origin = self._at(value)
        if isinstance(value, ast.Dict):
            return self._dict_literal(value)
        if isinstance(value, (ast.List, ast.Tuple)):
            return self._list_literal(value)
        if isinstance(value, ast.Call):
            if isinstance(value.func, ast.Name) and value.func.id == "dict":
                return self._dict_call(value)
            return Node(origin)
        if isinstance(value, ast.Name):
            return self.env.get(value.id, Node(origin, value=UNKNOWN))
        if isinstance(value, (ast.Attribute, ast.Subscript)):
            return self._reference(value) or Node(origin)
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            left, right = self._node(value.left), self._node(value.right)
            if left.is_list and right.is_list:
                items = [*left.children.values(), *right.children.values()]
                return _list_node(origin, items)
        try:
            return Node(origin, value=ast.literal_eval(value))
        except (ValueError, TypeError, SyntaxError):
            return Node(origin)

    def _reference(self, value: ast.expr) -> Node | None:
        """Follow ``_base_.model.connector`` and ``pipeline[0]``."""
        if isinstance(value, ast.Name):
            if value.id == _BASE:
                return Node(self._at(value), self.base)
            return self.env.get(value.id)
        if isinstance(value, ast.Attribute):
            owner = self._reference(value.value)
            return owner.get(value.attr) if owner else None
        if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant):
            owner = self._reference(value.value)
            return owner.get(str(value.slice.value)) if owner else None
        return None

    def _dict_literal(self, value: ast.Dict) -> Node:
        children: dict[str, Node] = {}
        for key, item in zip(value.keys, value.values, strict=True):
            if key is None:
                children.update(self._node(item).children or {})
            elif isinstance(key, ast.Constant):
                children[str(key.value)] = replace(
                    self._node(item), origin=self._at(key)
                )
        return self._finish_dict(self._at(value), children)

    def _dict_call(self, call: ast.Call) -> Node:
        children: dict[str, Node] = {}
        for item in call.args:
            children.update(self._node(item).children or {})
        for keyword in call.keywords:
            node = self._node(keyword.value)
            if keyword.arg is None:
                children.update(node.children or {})
            else:
                children[keyword.arg] = replace(node, origin=self._at(keyword))
        return self._finish_dict(self._at(call), children)

    @staticmethod
    def _finish_dict(origin: Origin, children: dict[str, Node]) -> Node:
        delete = children.pop(_DELETE, None)
        return Node(origin, children, delete=bool(delete and delete.value is True))

    def _list_literal(self, value: ast.List | ast.Tuple) -> Node:
        items: list[Node] = []
        for element in value.elts:
            if isinstance(element, ast.Starred):
                items.extend((self._node(element.value).children or {}).values())
            else:
                items.append(self._node(element))
        return _list_node(self._at(value), items)


def _list_node(origin: Origin, items: list[Node]) -> Node:
    return Node(origin, {str(i): n for i, n in enumerate(items)}, is_list=True)


def _with_child(node: Node, keys: list[str], new: Node) -> Node:
    if not keys:
        return new
    children = dict(node.children or {})
    old = children.get(keys[0], Node(new.origin, {}))
    children[keys[0]] = _with_child(old, keys[1:], new)
    return replace(node, children=children)


def _is_read_base(block: ast.With) -> bool:
    call = block.items[0].context_expr
    name = call.func if isinstance(call, ast.Call) else call
    return isinstance(name, ast.Name) and name.id == "read_base"


def _loaded_names(module: ast.Module) -> set[str]:
    names = set()
    for item in ast.walk(module):
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load):
            names.add(item.id)
        elif isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name):
            if item.value.id == _BASE:
                names.add(item.attr)
    return names


def _dialect(path: str) -> str | None:
    """Return ``text``, ``lazy`` or None for a file that fits both."""
    module = ast.parse(Path(path).read_text(encoding="utf-8"), filename=path)
    for item in module.body:
        if isinstance(item, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == _BASE for t in item.targets
        ):
            return "text"
        if isinstance(item, ast.With) and _is_read_base(item):
            return "lazy"
    return None


def shown_path(path: str) -> str:
    """Return the path relative to the working directory where it lies in it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


@dataclass
class ConfigTrace:
    """Origins of a whole chain.

    Args:
        path (str): the outermost config.
        nodes (dict[str, Node]): top-level fields.
        files (list[str]): the chain, bases first.
        used_names (set[str]): variables that some expression of a file reads.
        external (list[str]): bases of other packages (``package::config``),
            whose values have no origin here.
        dialects (dict[str, str]): ``text`` or ``lazy`` per file that has one.
    """

    path: str
    nodes: dict[str, Node] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    used_names: set[str] = field(default_factory=set)
    external: list[str] = field(default_factory=list)
    dialects: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | os.PathLike) -> ConfigTrace:
        """Read the chain that ends in ``path``; only ``.py`` files have origins."""
        path = os.path.abspath(os.fspath(path))
        trace = cls(shown_path(path))
        if not path.endswith(".py"):
            trace.files.append(trace.path)
            return trace
        trace.nodes = _FileReader(path, trace, ()).read()
        for file in trace.files:
            kind = _dialect(file)
            if kind:
                trace.dialects[file] = kind
        return trace

    def node(self, path: str) -> Node | None:
        """Return the node at a dotted path, None where the files have none."""
        node: Node | None = Node(COMMAND_LINE, self.nodes)
        for key in path.split(".") if path else []:
            node = node.get(key) if node else None
        return node

    def where(self, path: str) -> Origin:
        """Return the origin of a path, or of its nearest known ancestor."""
        keys = path.split(".")
        while keys:
            node = self.node(".".join(keys))
            if node is not None:
                return node.origin
            keys.pop()
        return Origin(self.path, 1)

    def set(self, path: str, value: Any) -> None:
        """Note that the command line set ``path``."""
        node = from_value(value, COMMAND_LINE)
        for key in reversed(path.split(".")):
            node = Node(COMMAND_LINE, {key: node})
        root = merge(node, Node(COMMAND_LINE, self.nodes), allow_list_keys=True)
        self.nodes = root.children
