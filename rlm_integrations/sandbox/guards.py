"""What guarded loads and stores do at run time, and the builtins that reach attributes by name.

Every parameter is positional-only: source must not be able to set anything by keyword.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import string
import types
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rlm_integrations.sandbox.except_star import Raised
from rlm_integrations.sandbox.policy import (
    BY_NAME,
    INSTEAD,
    NO_METACLASS,
    NotAllowed,
    check_store,
    load_guard,
    store_guard,
)
from rlm_integrations.sandbox.trace import CELL

MODEL_MODULE = "__main__"
# Objects that hand the loads of their attributes on to another one.
FORWARDING: tuple[type, ...] = (
    types.GenericAlias,
    typing._BaseGenericAlias,  # type: ignore[attr-defined]
    weakref.ProxyType,
    weakref.CallableProxyType,
)
_formatter_field_name_split: Any = importlib.import_module("_string").formatter_field_name_split


class Facade:
    """Looks like a module to model code: a name and public members, none of which can be changed."""

    # It must have no __name__: a failing `from json import decoder` would look for it in sys.modules by that name.
    __slots__ = ("__dict__", "_name")

    def __init__(self, name: str, members: Mapping[str, Any]) -> None:
        if self.__dict__:
            raise TypeError(f"{self!r} can't be changed")
        object.__setattr__(self, "_name", name)
        self.__dict__.update(members)
        self.__dict__["__all__"] = tuple(members)

    def __repr__(self) -> str:
        return f"<module {self._name!r}>"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} can't be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self!r} can't be changed")

    def __getattr__(self, name: str) -> Any:
        from rlm_integrations.sandbox.hints import attribute_hint

        raise AttributeError(f"module {self._name!r} has no attribute {name!r}{attribute_hint(self._name, name)}")

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(f"{self!r} can't be copied")


def is_model_made(obj: object, /) -> bool:
    """Whether model code defined ``obj``, or the class it is an instance of."""
    kind = type(obj)
    if kind.__module__ == MODEL_MODULE:
        return True
    if isinstance(obj, type):
        return obj.__module__ == MODEL_MODULE
    if isinstance(obj, types.FunctionType):
        return obj.__globals__.get("__name__") == MODEL_MODULE
    return False


def own(obj: Any, /) -> Any:
    """``obj``, if its private attributes are the model's own business."""
    if type(obj) in _OWN_KINDS:
        return obj
    if isinstance(obj, super):
        own(_behind(obj))
        return obj
    if not isinstance(obj, FORWARDING) and (is_model_made(obj) or type(obj) is types.SimpleNamespace):
        return obj
    raise AttributeError(f"private attributes of {_named(obj)} can't be used here")


def _behind(obj: Any) -> Any:
    """The object whose attributes a ``super()`` gives; any other object is itself."""
    return super.__dict__["__self__"].__get__(obj) if isinstance(obj, super) else obj


def write(obj: Any, /) -> Any:
    """``obj``, if model code may set its attributes: anything but classes, functions and modules not its own."""
    kind = type(obj)
    if kind in _OWN_KINDS:
        return obj
    if isinstance(obj, _NEVER_WRITTEN):
        raise AttributeError(f"attributes of {_named(obj)} can't be changed here")
    if kind.__module__ == MODEL_MODULE:
        if len(_OWN_KINDS) < MAX_OWN_KINDS:
            _OWN_KINDS.add(kind)
        return obj
    if isinstance(obj, type | types.FunctionType | types.ModuleType | Facade) and not is_model_made(obj):
        raise AttributeError(f"attributes of {_named(obj)} can't be changed here")
    return obj


# A dataclass makes source of the names its fields have.
_NEVER_WRITTEN = (*FORWARDING, super, dataclasses.Field)
# Classes of the model's own whose instances were written before: the checks are slow, and a loop writes often.
_OWN_KINDS: set[type] = set()
MAX_OWN_KINDS = 10_000


def write_own(obj: Any, /) -> Any:
    """``obj``, if model code may set its private attributes."""
    return obj if type(obj) in _OWN_KINDS else write(own(obj))


def dict_of(obj: Any, name: str = "__dict__", /) -> Any:
    """The attributes of an instance of the model's own; a copy for a class, whose attributes are more than data."""
    found = getattr(own(obj), name)
    if name == "__members__":
        # Compared with an object, a mappingproxy hands it the dict it stands for.
        return types.MappingProxyType(dict(found))
    if name == "__annotations__":
        return _annotations_of(obj, found)
    if isinstance(obj, type):
        return {key: value for key, value in found.items() if key[:2] != "__" and key[:1] != "."}
    return found if name == "__dict__" else dict(found)


def _annotations_of(obj: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    from rlm_integrations.sandbox.type_hints import hints_of

    try:
        return hints_of(obj) if isinstance(obj, types.FunctionType) else {k: plain_hint(v) for k, v in found.items()}
    except (NameError, TypeError, AttributeError, SyntaxError, ValueError):
        return dict(found)


def plain_hint(hint: Any, /) -> Any:
    """``hint``, or the text of a forward reference: the object itself can run that text."""
    return hint.__forward_arg__ if isinstance(hint, typing.ForwardRef) else hint


def method_of(obj: Any, name: str, /) -> Any:
    """A method like ``__init__``. One that a class hands out unbound, and model code did not write, checks its self."""
    found = getattr(obj, name)
    if type(found) is not types.FunctionType or found.__code__.co_filename.startswith(CELL):
        return found
    owner = super.__dict__["__self_class__"].__get__(obj) if isinstance(obj, super) else obj
    if not isinstance(owner, type):
        raise AttributeError(f"{name!r} of {_named(obj)} can't be used here")

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not issubclass(type(self), owner):
            raise TypeError(f"{owner.__name__}.{name}() takes a {owner.__name__!r}, not {_named(self)}")
        return found(self, *args, **kwargs)

    method.__name__, method.__qualname__, method.__doc__ = found.__name__, found.__qualname__, found.__doc__
    return method


def wrapped_by(obj: Any, name: str, /) -> Any:
    """``__wrapped__`` of a function of the model's own, which may be wrapped by one of the standard library."""
    if isinstance(obj, FORWARDING):
        raise AttributeError(f"{name!r} of {_named(obj)} can't be used here")
    found = getattr(obj, name)
    return found if is_model_made(found) else getattr(own(obj), name)


def bases_of(obj: Any, name: str, /) -> Any:
    """``__mro__``, ``__bases__`` or ``__base__`` of a class of the model's own: those that are its own too."""
    if not isinstance(obj, type) or obj.__module__ != MODEL_MODULE:
        raise AttributeError(f"the attribute {name!r} of {_named(obj)} can't be used here: {INSTEAD[name]}")
    if name == "__base__":
        return obj.__base__ if is_model_made(obj.__base__) else object
    return tuple([base for base in getattr(obj, name) if base is object or is_model_made(base)])


def unless_zone(obj: Any, name: str, /) -> Any:
    """``obj.from_file``, unless it is that of ``ZoneInfo``: it is C code that reads whatever bytes it is given."""
    kind = obj if isinstance(obj, type) else type(obj)
    if issubclass(kind, (super, datetime.tzinfo, *FORWARDING)):
        raise AttributeError("from_file() of a time zone can't be used here: ZoneInfo(key) gives the zones there are")
    return getattr(obj, name)


def unless_error(obj: Any, /) -> Any:
    """``obj``, unless it is an exception: its ``.obj`` is whatever object the failing code had at hand."""
    if isinstance(_behind(obj), (BaseException, *FORWARDING)):
        raise AttributeError("the attribute 'obj' of an exception can't be used here")
    return obj


def class_of(obj: Any, /) -> Any:
    """The class of ``obj``; the class of a class is ``type`` as model code knows it."""
    return Type if isinstance(obj, type) else type(obj)


class _TypeMeta(type):
    def __call__(cls, *args: Any) -> Any:
        if len(args) != 1:
            raise TypeError("type() takes one argument here: write a class statement to make a class")
        return class_of(args[0])

    def __instancecheck__(cls, obj: object) -> bool:
        return isinstance(obj, type)

    def __subclasscheck__(cls, obj: type) -> bool:
        return issubclass(obj, type)

    def __repr__(cls) -> str:
        return "<class 'type'>"


class Type(metaclass=_TypeMeta):
    """``type`` as model code knows it: tells what class something has, and makes none."""

    def __init_subclass__(cls) -> None:
        raise TypeError(NO_METACLASS)

    def __class_getitem__(cls, item: object) -> Any:
        # A hint that Python makes of its own ``type`` can be called, and makes classes.
        return types.GenericAlias(cls, (item,))


Type.__name__ = Type.__qualname__ = "type"
Type.__module__ = "builtins"


def format_of(obj: Any, name: str, /) -> Any:
    """``obj.format`` or ``obj.format_map``; those of strings load attributes, so they get a formatter that asks."""
    method = getattr(obj, name)
    owner = getattr(method, "__self__", None)
    if type(method) is types.BuiltinMethodType and isinstance(owner, str):
        template = str.__str__(owner)
        if name == "format":
            return lambda *args, **kwargs: safe_format(template, args, kwargs)
        return lambda mapping, /: safe_format(template, (), mapping)
    if type(method) is types.MethodDescriptorType and method.__objclass__ is str:
        if name == "format":
            return lambda template, /, *args, **kwargs: safe_format(str.__str__(template), args, kwargs)
        return lambda template, mapping, /: safe_format(str.__str__(template), (), mapping)
    return method


def safe_format(template: str, args: Sequence[Any], kwargs: Mapping[str, Any], /) -> str:
    """``template.format(...)``, with every attribute in it loaded under the policy."""
    if not _reaches(template):
        return template.format(*args, **kwargs) if type(kwargs) is dict else template.format_map(kwargs)
    return SafeFormatter().vformat(template, args, kwargs)


def _reaches(template: str) -> bool:
    """Whether a replacement field of ``template`` holds more than a plain name or number."""
    for _, name, spec, _ in string.Formatter().parse(template):
        if name is not None and ("." in name or "[" in name):
            return True
        if spec and "{" in spec and _reaches(spec):
            return True
    return False


class SafeFormatter(string.Formatter):
    """``string.Formatter`` whose fields are loaded under the policy."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any], /) -> Any:
        """The object a replacement field names."""
        first, rest = _formatter_field_name_split(field_name)
        obj = self.get_value(first, args, kwargs)
        for is_attribute, key in rest:
            obj = guarded_getattr(obj, key) if is_attribute else obj[key]
        return obj, first


def _setattr_of(obj: Any, name: str, /) -> Callable[..., None]:
    """``object.__setattr__`` and ``super().__setattr__``, as frozen and computed attributes need them."""
    act: Callable[..., None] = object.__setattr__ if name == "__setattr__" else object.__delattr__
    if obj is object:
        return lambda target, name, /, *value: act(_model_instance(target), _storable(name), *value)
    if type(obj) is super:
        target = _behind(obj)
        return lambda name, /, *value: act(_model_instance(target), _storable(name), *value)
    raise AttributeError(f"{name!r} of {_named(obj)} can't be used here: use setattr()")


def _model_instance(obj: Any) -> Any:
    if type(obj).__module__ != MODEL_MODULE:
        raise AttributeError(f"attributes of {_named(obj)} can't be changed here")
    return obj


def guarded_getattr(obj: Any, name: str, /, *default: Any) -> Any:
    """``getattr`` under the policy."""
    if len(default) > 1:
        raise TypeError("getattr expected at most 3 arguments")
    try:
        return _load(obj, _exact(name))
    except AttributeError:
        if default:
            return default[0]
        raise


def _load(obj: Any, name: str) -> Any:
    try:
        guard = load_guard(name)
    except NotAllowed as refused:
        raise AttributeError(refused.msg) from None
    if guard is None:
        return getattr(obj, name)
    if guard == ".class":
        return class_of(obj)
    if guard in BY_NAME:
        return RUNTIME[guard](obj, name)
    return getattr(RUNTIME[guard](obj), name)


def guarded_hasattr(obj: Any, name: str, /) -> bool:
    """``hasattr`` under the policy."""
    try:
        _load(obj, _exact(name))
    except AttributeError:
        return False
    return True


def guarded_setattr(obj: Any, name: str, value: Any, /) -> None:
    """``setattr`` under the policy."""
    name = _storable(name)
    setattr(RUNTIME[store_guard(name)](obj), name, value)


def guarded_delattr(obj: Any, name: str, /) -> None:
    """``delattr`` under the policy."""
    name = _storable(name)
    delattr(RUNTIME[store_guard(name)](obj), name)


def _storable(name: str) -> str:
    name = _exact(name)
    try:
        check_store(name)
    except NotAllowed as refused:
        raise AttributeError(refused.msg) from None
    return name


def guarded_dir(obj: Any, /) -> list[str]:
    """``dir`` of one object, without the names that can't be loaded."""
    return [name for name in (obj.__all__ if type(obj) is Facade else dir(obj)) if not name.startswith("_")]


def guarded_vars(obj: Any, /) -> Any:
    """``vars`` of an object of the model's own."""
    return dict_of(obj)


def attrgetter(*names: str) -> Callable[[Any], Any]:
    """``operator.attrgetter`` under the policy."""

    def walk(obj: Any, path: str) -> Any:
        for name in _exact(path).split("."):
            obj = guarded_getattr(obj, name)
        return obj

    if len(names) == 1:
        return lambda obj, /: walk(obj, names[0])
    return lambda obj, /: tuple(walk(obj, name) for name in names)


def methodcaller(name: str, /, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """``operator.methodcaller`` under the policy."""
    return lambda obj, /: guarded_getattr(obj, name)(*args, **kwargs)


def _exact(name: object) -> str:
    # A subclass of str could say one thing to the check and another to the load.
    if not isinstance(name, str):
        raise TypeError("attribute name must be string")
    return str.__str__(name)


def _named(obj: Any) -> str:
    if isinstance(obj, type | types.FunctionType):
        return repr(obj.__name__)
    if isinstance(obj, Facade):
        return repr(obj)
    return f"a {type(obj).__name__!r} object"


class Variables(dict[str, Any]):
    """What ``globals()`` gives: a copy of the variables whose changes reach them."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        super().__init__(visible(namespace))
        self._namespace = namespace

    def __reduce_ex__(self, protocol: object) -> Any:
        # A copy is a plain dict: the memo of ``deepcopy`` would hold the namespace itself.
        return dict, (dict(self),)

    def __setitem__(self, name: str, value: Any) -> None:
        name = _exact(name)
        if not name.isidentifier() or (name.startswith("__") and name.endswith("__")):
            raise KeyError(f"no variable can be called {name!r}")
        super().__setitem__(name, value)
        self._namespace[name] = value

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._namespace.pop(name, None)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set many variables."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Variables:  # type: ignore[misc, override]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value of a variable, which is set if it is not there."""
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        """Take a variable away and give its value."""
        name = _exact(name)
        if name in self:
            self._namespace.pop(name, None)
        return super().pop(name, *default)


def visible(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The variables without the machinery."""
    return {name: value for name, value in _items(namespace) if name[:2] != "__" and name[:1] != "."}


def _items(namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return iter(list(namespace.items()))


RUNTIME: dict[str, Callable[..., Any]] = {
    ".own": own,
    ".write": write,
    ".write_own": write_own,
    ".method": method_of,
    ".wrapped": wrapped_by,
    ".unless_error": unless_error,
    ".class": class_of,
    ".dict": dict_of,
    ".format": format_of,
    ".setattr": _setattr_of,
    ".bases": bases_of,
    ".zone": unless_zone,
    ".raised": Raised,
    ".BaseException": BaseException,
}
