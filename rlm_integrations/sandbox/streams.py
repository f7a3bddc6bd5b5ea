"""Modules that have to do with where output goes: sys, contextlib, logging, pprint, traceback, warnings."""

from __future__ import annotations

import contextlib
import pprint
import sys
from collections.abc import Iterator
from typing import Any

from rlm_integrations.sandbox.guards import Facade
from rlm_integrations.sandbox.output import Streams
from rlm_integrations.sandbox.trace import describe, format_exc
from rlm_integrations.sandbox.warned import warnings

_CONTEXTLIB = (
    "contextmanager asynccontextmanager suppress closing aclosing nullcontext ExitStack AsyncExitStack "
    "ContextDecorator AbstractContextManager"
)


_METHODS = "log debug info warning error exception critical"
_SYS_NAMES = "maxsize version version_info byteorder maxunicode float_info"
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "NOTSET": 0}


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _exit(status: object = None, /) -> None:
    raise SystemExit(status)


_SYS: dict[str, Any] = {
    **{name: getattr(sys, name) for name in _SYS_NAMES.split()},
    "argv": (),
    "exit": _exit,
    "platform": sys.platform,
    "exc_info": lambda: (type(sys.exception()), sys.exception(), None) if sys.exception() else (None, None, None),
    "exception": sys.exception,
    "set_int_max_str_digits": sys.set_int_max_str_digits,
    "get_int_max_str_digits": sys.get_int_max_str_digits,
    "getsizeof": sys.getsizeof,
    "getrecursionlimit": sys.getrecursionlimit,
    "setrecursionlimit": lambda limit, /: sys.setrecursionlimit(max(100, min(int(limit), 10_000))),
    "intern": sys.intern,
}


def stream_facades(streams: Streams) -> dict[str, Facade]:
    """Those modules, for one session."""

    class Stream:
        """``sys.stdout``: whatever ``print`` writes to."""

        __slots__ = ()
        encoding = "utf-8"

        def write(self, text: str) -> int:
            written: int = streams.stdout.write(text)
            return written

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return False

    @contextlib.contextmanager
    def redirect_stdout(target: Any, /) -> Iterator[Any]:
        before, streams.stdout = streams.stdout, target
        try:
            yield target
        finally:
            streams.stdout = before

    def pretty(obj: Any, stream: Any = None, *args: Any, **options: Any) -> None:
        (streams.stdout if stream is None else stream).write(pprint.pformat(obj, *args, **options) + "\n")

    class PrettyPrinter:
        """Prints with the same options each time."""

        def __init__(self, *args: Any, stream: Any = None, **options: Any) -> None:
            self.pformat = lambda obj, /: pprint.pformat(obj, *args, **options)
            self.pprint = lambda obj, /: pretty(obj, stream, *args, **options)

    def print_exc(*args: Any, **options: Any) -> None:
        streams.stdout.write(format_exc())

    def format_exception(*error: Any, **options: Any) -> list[str]:
        return [describe(_raised(error), "") + "\n"]

    def print_exception(*error: Any, **options: Any) -> None:
        streams.stdout.write(format_exception(*error)[0])

    stdout = Stream()
    return {
        "sys": Facade("sys", {**_SYS, "stdout": stdout, "stderr": stdout}),
        "pprint": Facade(
            "pprint",
            {
                "pprint": pretty,
                "pp": lambda obj, *args, sort_dicts=False, **options: pretty(
                    obj, *args, sort_dicts=sort_dicts, **options
                ),
                "pformat": pprint.pformat,
                "PrettyPrinter": PrettyPrinter,
            },
        ),
        "logging": Facade("logging", {**_LEVELS, **_logging(streams)}),
        "warnings": Facade("warnings", warnings()),
        "traceback": Facade(
            "traceback",
            {
                "format_exc": format_exc,
                "print_exc": print_exc,
                "format_exception": format_exception,
                "format_exception_only": lambda *error: [f"{type(error[-1]).__name__}: {error[-1]}\n"],
                "print_exception": print_exception,
            },
        ),
        "contextlib": Facade(
            "contextlib",
            {
                **{name: getattr(contextlib, name) for name in _CONTEXTLIB.split()},
                "redirect_stdout": redirect_stdout,
                "redirect_stderr": redirect_stdout,
            },
        ),
    }


def _raised(error: tuple[Any, ...]) -> BaseException:
    """The exception among the arguments of ``traceback.format_exception``, old style or new."""
    found = error[-1 if len(error) < 3 else 1] if error else None
    if not isinstance(found, BaseException):
        raise TypeError(f"an exception was expected, got {type(found).__name__!r}")
    return found


def _logging(streams: Streams) -> dict[str, Any]:
    """``logging`` as scripts use it: loggers with one level, which print."""
    level = _LEVELS["WARNING"]

    class Logger:
        """Prints what is important enough."""

        handlers = ()

        def __init__(self, name: str = "root", level: Any = None) -> None:
            self.name = name

        def log(self, importance: int, message: object, *args: Any, **options: Any) -> None:
            if importance >= level:
                text = (
                    str(message) % (args[0] if len(args) == 1 and isinstance(args[0], dict) else args)
                    if args
                    else message
                )
                names = [name for name, number in _LEVELS.items() if number == importance]
                streams.stdout.write(f"{names[0] if names else importance}: {text}\n")

        def debug(self, message: object, *args: Any, **options: Any) -> None:
            self.log(10, message, *args)

        def info(self, message: object, *args: Any, **options: Any) -> None:
            self.log(20, message, *args)

        def warning(self, message: object, *args: Any, **options: Any) -> None:
            self.log(30, message, *args)

        def error(self, message: object, *args: Any, **options: Any) -> None:
            self.log(40, message, *args)

        def exception(self, message: object, *args: Any, **options: Any) -> None:
            self.log(40, f"{message}\n{format_exc()}", *args)

        critical = error

        def setLevel(self, importance: int | str) -> None:
            nonlocal level
            level = _LEVELS.get(importance, level) if isinstance(importance, str) else importance

        def isEnabledFor(self, importance: int) -> bool:
            return importance >= level

        propagate = True
        addHandler = removeHandler = addFilter = _nothing

        def hasHandlers(self) -> bool:
            return True

        def getEffectiveLevel(self) -> int:
            return level

    class Handler:
        """A handler or formatter, which changes nothing: there is one place to print to."""

        def __init__(self, *args: Any, **options: Any) -> None:
            pass

        setFormatter = setLevel = addFilter = _nothing

    logger = Logger()
    loggers: dict[str, Logger] = {"root": logger}

    def basicConfig(*, level: int | str = "WARNING", **options: Any) -> None:
        logger.setLevel(level)

    return {
        "getLogger": lambda name=None, /: loggers.setdefault(name, Logger(name)) if name else logger,
        "basicConfig": basicConfig,
        "disable": _nothing,
        "StreamHandler": Handler,
        "NullHandler": Handler,
        "Formatter": Handler,
        "Logger": Logger,
        **{name: getattr(logger, name) for name in _METHODS.split()},
    }
