"""Which keywords a constructor takes, followed through its base classes."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_SIMPLE = (bool, int, float, str, type(None), list, tuple, dict)


@dataclass
class Accepted:
    """The keywords of a constructor.

    Args:
        names (dict[str, Any]): keyword to its resolved annotation (or None).
        required (set[str]): those without a default.
        open (bool): whether it takes any other keyword too.
    """

    names: dict[str, Any] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    open: bool = False


@functools.cache
def accepted_keywords(obj: Callable) -> Accepted:
    """Return what ``obj(**keywords)`` takes.

    ``**kwargs`` are followed where the source hands them to the constructor of
    a base class; handed anywhere else they make the constructor open.
    """
    accepted = Accepted()
    if not inspect.isclass(obj):
        extra = _add_signature(accepted, obj, set())
        accepted.open = extra is not None
        return accepted
    passed: set[str] = set()
    for base in obj.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        if base is object or base.__module__.startswith("torch.nn.modules.module"):
            accepted.open = False
            break
        extra = _add_signature(accepted, init, passed)
        if extra is None:
            break
        use = _kwargs_use(init, extra)
        accepted.names.update(dict.fromkeys(use.taken))
        accepted.open = not use.forwarded or use.leaks
        if accepted.open:
            break
        passed |= use.passed | set(_positional(base, obj)[: use.positional])
    return accepted


def _add_signature(accepted: Accepted, func: Callable, passed: set[str]) -> str | None:
    """Add a function's keywords; return the name of its ``**kwargs``, if any."""
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError):
        return "kwargs"
    hints = _hints(func)
    extra = None
    for number, parameter in enumerate(parameters):
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = parameter.name
        if parameter.kind not in _NAMED or (number == 0 and parameter.name == "self"):
            continue
        if parameter.name in accepted.names or parameter.name in passed:
            continue
        accepted.names[parameter.name] = hints.get(
            parameter.name, _kind_of_default(parameter.default)
        )
        if parameter.default is inspect.Parameter.empty:
            accepted.required.add(parameter.name)
    return extra


def _kind_of_default(default: Any) -> Any:
    """Return what may replace a number without annotation: anything but text."""
    number = isinstance(default, int | float) and not isinstance(default, bool)
    return float | bool | list | tuple | dict | None if number else None


def _hints(func: Callable) -> dict[str, Any]:
    """Return resolved annotations; those that only type checkers know are left out."""
    func = inspect.unwrap(func)
    scope = getattr(func, "__globals__", {})
    hints = {}
    for name, annotation in getattr(func, "__annotations__", {}).items():
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, scope)
            except (NameError, AttributeError, TypeError, SyntaxError):
                continue
        hints[name] = annotation
    return hints


def _positional(base: type, obj: type) -> list[str]:
    """Return the parameter names of the constructor after ``base`` in the MRO."""
    after = obj.__mro__[obj.__mro__.index(base) + 1 :]
    for other in after:
        init = other.__dict__.get("__init__")
        if init is not None:
            try:
                return list(inspect.signature(init).parameters)[1:]
            except (TypeError, ValueError):
                return []
    return []


@dataclass
class _KwargsUse:
    """What a constructor does with its ``**kwargs``."""

    forwarded: bool = False
    leaks: bool = False
    positional: int = 0
    passed: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)


def _kwargs_use(init: Callable, name: str) -> _KwargsUse:
    use = _KwargsUse()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return _KwargsUse(forwarded=False)
    for call in (item for item in ast.walk(tree) if isinstance(item, ast.Call)):
        func = call.func
        if isinstance(func, ast.Attribute) and _is_name(func.value, name):
            if func.attr in ("pop", "get", "setdefault") and call.args:
                if isinstance(call.args[0], ast.Constant):
                    use.taken.add(str(call.args[0].value))
            elif func.attr not in ("keys", "items", "values"):
                use.leaks = True
        if not any(k.arg is None and _is_name(k.value, name) for k in call.keywords):
            continue
        if isinstance(func, ast.Attribute) and func.attr == "__init__":
            use.forwarded = True
            explicit_self = not isinstance(func.value, ast.Call)
            # ``*args`` are empty: a config gives keywords only.
            arguments = [arg for arg in call.args if not isinstance(arg, ast.Starred)]
            use.positional = len(arguments) - int(explicit_self)
            use.passed = {k.arg for k in call.keywords if k.arg}
        else:
            use.leaks = True
    return use


def _is_name(item: ast.expr, name: str) -> bool:
    return isinstance(item, ast.Name) and item.id == name


def type_mismatch(value: Any, annotation: Any) -> str | None:
    """Return the expected type's name if a simple annotation excludes ``value``.

    Only annotations made of plain types are judged, and tensors, which a config
    never holds; one other class in a union makes the check pass.
    """
    if annotation is None or annotation is Any:
        return None
    if _fits(value, annotation) is not False:
        return None
    if _fits(0.5, annotation) and not _fits("", annotation):
        return "a number"
    name = getattr(annotation, "__name__", None)
    plain = isinstance(annotation, type) and name
    return name if plain else str(annotation).replace("typing.", "")


def wrong_type(owner: str, value: Any, annotation: Any) -> str | None:
    """Return what to say of a value that an annotation excludes, or None."""
    expected = type_mismatch(value, annotation)
    if expected is None:
        return None
    hint = ""
    if isinstance(value, str) and _fits(number := _number(value), annotation):
        hint = f" Write it without quotes: {number!r}."
    got = type(value).__name__
    if isinstance(value, (list, tuple)):
        got += f" of {', '.join(sorted({type(one).__name__ for one in value}))}"
    return f"{owner} expects {expected}, got {got}.{hint}"


def _number(text: str) -> int | float | None:
    """Return the number that a text writes, None for other text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _fits(value: Any, annotation: Any) -> bool | None:
    """Return True, False, or None where no judgement is possible."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        verdicts = [_fits(value, part) for part in typing.get_args(annotation)]
        if True in verdicts:
            return True
        return None if None in verdicts else False
    if origin is typing.Literal:
        return value in typing.get_args(annotation)
    kind = origin or annotation
    if kind in (Mapping, typing.Mapping):
        return isinstance(value, dict)
    # A config written as JSON has no tuples.
    if kind in (Sequence, typing.Sequence, list, tuple):
        return _elements_fit(value, typing.get_args(annotation))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in _SIMPLE:
        return isinstance(value, kind)
    if getattr(kind, "__module__", "") == "torch" and kind.__name__ == "Tensor":
        return False
    return None


def _elements_fit(value: Any, kinds: tuple) -> bool:
    """Whether a value is a list whose elements may be of the kinds."""
    if not isinstance(value, (list, tuple)):
        return False
    kinds = tuple(kind for kind in kinds if kind is not Ellipsis)
    if len(kinds) != len(value):
        kinds = kinds[:1] * len(value)
    pairs = zip(value, kinds, strict=False)
    # Dicts are components that are still to be built.
    return not any(
        _fits(one, kind) is False for one, kind in pairs if not isinstance(one, dict)
    )
