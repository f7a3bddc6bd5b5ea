"""The modules model code can import: facades of functions and classes from a list, never modules themselves."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable
from typing import Any

from rlm_integrations.sandbox import adapted, guards, paths, reflection, seals, stand_ins, threads, type_hints, zones
from rlm_integrations.sandbox.guards import Facade
from rlm_integrations.sandbox.hints import attribute_hint, module_hint

_PRELOADED = "re json math datetime collections itertools statistics string textwrap random functools hashlib csv"
PRELOADED = tuple(_PRELOADED.split())

# "*" is every public name of the module that is not a module; "-name" takes one away. Stand-ins come from
# ``REPLACED``.
MEMBERS = {
    "abc": "ABC abstractmethod abstractclassmethod abstractstaticmethod abstractproperty",
    "array": "array",
    "ast": "literal_eval",
    "asyncio": "",
    "base64": "* -main -encode -decode -test",
    "binascii": "*",
    "bisect": "*",
    "calendar": "* -LocaleTextCalendar -LocaleHTMLCalendar",
    "cmath": "*",
    "collections": "*",
    "collections.abc": "*",
    "colorsys": "*",
    "concurrent.futures": "",
    "contextlib": "",
    "contextvars": "ContextVar Token copy_context",
    "copy": "copy deepcopy replace Error error",
    "csv": "*",
    "dataclasses": "* -make_dataclass -dataclass",
    "datetime": "*",
    "decimal": "*",
    "difflib": "*",
    "enum": "* -EnumMeta -EnumType -global_enum -global_str -global_enum_repr -global_flag_repr",
    "fractions": "*",
    "functools": "* -WRAPPER_ASSIGNMENTS -WRAPPER_UPDATES",
    "graphlib": "*",
    "hashlib": "* -file_digest",
    "heapq": "*",
    "hmac": "new digest compare_digest",
    "html": "escape unescape",
    "html.parser": "HTMLParser",
    "inspect": "",
    "io": "StringIO BytesIO",
    "ipaddress": "ip_address ip_network IPv4Address IPv6Address IPv4Network IPv6Network",
    "itertools": "*",
    "json": "* -detect_encoding",
    "keyword": "*",
    "logging": "",
    "math": "*",
    "numbers": "*",
    "operator": "* -attrgetter -methodcaller",
    "os": "",
    "os.path": "basename dirname join split splitext normpath commonprefix commonpath isabs relpath sep",
    "pathlib": "",
    "pprint": "",
    "queue": "Queue LifoQueue PriorityQueue SimpleQueue Empty Full",
    "random": "* -SystemRandom",
    "re": "* -template",
    "secrets": "token_hex token_urlsafe choice randbelow",
    "shlex": "split quote join",
    "statistics": "*",
    "string": "* -Formatter",
    "struct": "*",
    "sys": "",
    "textwrap": "*",
    "threading": "",
    "time": "asctime ctime gmtime localtime mktime monotonic monotonic_ns perf_counter perf_counter_ns process_time "
    "process_time_ns sleep strftime strptime struct_time thread_time thread_time_ns time time_ns timezone tzname "
    "altzone daylight",
    "timeit": "",
    "tomllib": "loads TOMLDecodeError",
    "traceback": "",
    "types": "SimpleNamespace MappingProxyType NoneType EllipsisType GeneratorType FunctionType LambdaType MethodType "
    "BuiltinFunctionType CoroutineType AsyncGeneratorType UnionType GenericAlias",
    "typing": "* -get_type_hints -ForwardRef -evaluate_forward_ref -get_args -get_protocol_members",
    "unicodedata": "*",
    "urllib": "",
    "urllib.parse": "* -unwrap",
    "uuid": "UUID uuid3 uuid4 uuid5 NAMESPACE_DNS NAMESPACE_URL NAMESPACE_OID NAMESPACE_X500",
    "warnings": "",
    "weakref": "ref WeakKeyDictionary WeakValueDictionary WeakSet",
    "zlib": "compress decompress crc32 adler32 error",
    "zoneinfo": "",
}
REPLACED: dict[str, dict[str, Any]] = {
    "abc": {"ABCMeta": "use `class X(ABC)`, or metaclass=ABCMeta in a class statement"},
    "asyncio": stand_ins.ASYNCIO,
    "concurrent.futures": stand_ins.FUTURES,
    "dataclasses": {"dataclass": adapted.dataclass},
    "functools": {
        "wraps": adapted.wraps,
        "update_wrapper": adapted.update_wrapper,
        "total_ordering": adapted.total_ordering,
        "singledispatch": type_hints.singledispatch,
        "singledispatchmethod": type_hints.singledispatchmethod,
    },
    "inspect": reflection.INSPECT,
    "operator": {"attrgetter": guards.attrgetter, "methodcaller": guards.methodcaller},
    "os": {"linesep": "\n", "sep": "/", "getcwd": lambda: "/", "cpu_count": lambda: 1},
    "pathlib": paths.PATHLIB,
    "string": {"Formatter": guards.SafeFormatter},
    "threading": threads.THREADING,
    "timeit": threads.TIMEIT,
    "typing": {
        "Type": guards.Type,
        "get_args": type_hints.get_args,
        "get_origin": type_hints.get_origin,
        "get_type_hints": type_hints.get_type_hints,
    },
    "uuid": {"uuid1": adapted.uuid1},
    "concurrent": {},
    "urllib": {},
}


def names() -> list[str]:
    """The modules there are."""
    return sorted(MEMBERS)


def build() -> dict[str, Facade]:
    """Facades of all modules, by name. Imports them, so it is called once, before the lock."""
    # strptime and IDNA are imported by C code at their first use.
    for late in ("_strptime", "encodings.idna", "encodings.latin_1", "encodings.utf_16", "encodings.cp1252"):
        importlib.import_module(late)
    seals.seal()
    facades: dict[str, Facade] = {}
    # Deepest first, so that a package finds its parts.
    for name in sorted({*MEMBERS, *REPLACED}, key=lambda name: -name.count(".")):
        members = _members(name)
        members.update(REPLACED.get(name, {}) if name != "zoneinfo" else zones.read_zones())
        members.update({part.rpartition(".")[2]: facades[part] for part in facades if part.rpartition(".")[0] == name})
        facades[name] = Facade(name, members)
    return facades


def _members(name: str) -> dict[str, Any]:
    words = MEMBERS.get(name, "").split()
    if not words:
        return {}
    module = importlib.import_module(name)
    wanted = [word for word in words if word[0] not in "*-"]
    if "*" in words:
        wanted += [*(getattr(module, "__all__", None) or dir(module))]
    left_out = {word[1:] for word in words if word[0] == "-"}
    found: dict[str, Any] = {}
    for member in wanted:
        if member in left_out or member.startswith("_") or not hasattr(module, member):
            continue
        value = getattr(module, member)
        if not isinstance(value, types.ModuleType):
            found[member] = value
    return found


def importers(facades: dict[str, Facade], namespace: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """What import statements of model code are turned into."""

    def find(name: str, /) -> Facade:
        if name not in facades:
            raise ModuleNotFoundError(f"no module named {name!r} here{module_hint(name)}", name=name)
        return facades[name]

    def find_top(name: str, /) -> Facade:
        find(name)
        return facades[name.partition(".")[0]]

    def find_member(name: str, member: str, /) -> Any:
        members = find(name).__dict__
        if member not in members:
            raise ImportError(f"cannot import name {member!r} from {name!r}{attribute_hint(name, member)}", name=name)
        return members[member]

    def find_all(name: str, /) -> None:
        namespace.update({member: value for member, value in find(name).__dict__.items() if member != "__all__"})

    return {".import": find, ".import_top": find_top, ".import_from": find_member, ".import_all": find_all}
