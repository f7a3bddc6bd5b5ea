# More of what models write. Cells are parted by "# ---"; each prints the same here as in plain CPython.

from dataclasses import dataclass, field, asdict, replace
from typing import List, Optional, Dict, ClassVar

@dataclass
class Item:
    name: str
    price: float = 0.0
    tags: List[str] = field(default_factory=list)
    kind: ClassVar[str] = "item"

    @property
    def label(self) -> str:
        return f"{self.name}: {self.price:.2f}"

items = [Item("a", 1.5), Item(name="b", price=2, tags=["x"])]
items[0].tags.append("y")
print(items, asdict(items[1]), items[0].label, replace(items[0], name="z"), Item.kind)
print(items[0] == Item("a", 1.5, ["y"]), sorted(items, key=lambda i: -i.price)[0].name)
# ---
from dataclasses import dataclass

@dataclass(frozen=True, order=True)
class Point:
    x: int
    y: "int" = 0

    def __post_init__(self):
        object.__setattr__(self, "y", self.y + 1)

p = Point(1)
print(p, p < Point(2), {p: 1}[Point(1)])
try:
    p.x = 5
except Exception as e:
    print(type(e).__name__, e)
# ---
from enum import Enum, auto, IntEnum, Flag

class Color(Enum):
    RED = 1
    GREEN = auto()

    @classmethod
    def parse(cls, text):
        return cls[text.upper()]

class Level(IntEnum):
    LOW = 1
    HIGH = 2

print(Color.parse("red"), Color.GREEN.value, list(Color), Level.HIGH > Level.LOW, Color(1).name, Color.RED in Color)
print(Enum("Animal", "CAT DOG").DOG, Color.__members__.keys())
# ---
from typing import NamedTuple, TypedDict, Any, Union, Callable, Iterator, TypeVar, Generic

T = TypeVar("T")

class Row(NamedTuple):
    id: int
    name: str = "?"

class Stack(Generic[T]):
    def __init__(self) -> None:
        self._items: list[T] = []
    def push(self, item: T) -> None:
        self._items.append(item)
    def pop(self) -> T:
        return self._items.pop()
    def __len__(self):
        return len(self._items)
    def __bool__(self):
        return bool(self._items)

class Movie(TypedDict):
    title: str

r = Row(1)
s = Stack[int]()
s.push(4)
m: Movie = {"title": "x"}
print(r, r._asdict(), r._replace(name="b"), Row._fields, len(s), s.pop(), bool(s), m)
# ---
def classify(x):
    match x:
        case int() | float() if x > 100:
            return "big"
        case 0:
            return "zero"
        case [a, b, *rest]:
            return f"list {a} {b} {rest}"
        case {"type": "user", "name": str(name), **kw}:
            return f"user {name} {kw}"
        case str() as s:
            return s.upper()
        case (None | True):
            return "const"
        case _:
            return "other"

for v in (500, 0, [1, 2, 3], {"type": "user", "name": "bob", "age": 3}, "abc", None, 3.5):
    print(classify(v))
# ---
class Point:
    __match_args__ = ("x", "y")
    def __init__(self, x, y):
        self.x = x
        self.y = y
    def __repr__(self):
        return f"Point({self.x}, {self.y})"
    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)
    def __hash__(self):
        return hash((self.x, self.y))
    def __add__(self, o):
        return Point(self.x + o.x, self.y + o.y)
    def __getitem__(self, i):
        return (self.x, self.y)[i]
    def __iter__(self):
        yield self.x
        yield self.y
    def __contains__(self, v):
        return v in (self.x, self.y)
    def __call__(self):
        return "called"
    def __lt__(self, o):
        return self.x < o.x
    def __enter__(self):
        return self
    def __exit__(self, *exc):
        print("exit", exc[0].__name__ if exc[0] else None)
        return True

match Point(1, 2):
    case Point(x, y=2):
        print("matched", x)
with Point(3, 4) as p:
    print(list(p), 3 in p, p(), p + Point(1, 1), p[0], sorted([Point(2, 0), Point(1, 0)]), len({Point(1, 1), Point(1, 1)}))
    raise ValueError("swallowed")
# ---
class Base:
    registry = {}
    count = 0
    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        Base.registry[cls.__name__] = cls
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
        Base.count += 1
        type(self).last = self
    @staticmethod
    def helper(x):
        return x * 2
    @classmethod
    def make(cls, *a):
        return cls(*a)
    @property
    def size(self):
        return len(self.args)
    @size.setter
    def size(self, n):
        self.args = self.args[:n]
    def __str__(self):
        return f"{self.__class__.__name__}{self.args}"
    __repr__ = __str__

class Child(Base):
    def __init__(self, *a, extra=None, **kw):
        super().__init__(*a, **kw)
        self._extra = extra
        self.__secret = 1
    def secret(self):
        self.__secret += 1
        return self.__secret, self._extra
    def __getattr__(self, name):
        if name.startswith("dyn_"):
            return name[4:]
        raise AttributeError(name)

c = Child.make(1, 2, 3)
c.size = 2
print(c, c.size, Child.helper(4), c.secret(), c.dyn_foo, Base.registry, Base.count, isinstance(c, Base), issubclass(Child, Base))
print(hasattr(c, "nope"), getattr(c, "nope", "dflt"), vars(c)["args"], c.__dict__["kwargs"], c.__class__.__name__, type(c) is Child, type(c).__name__)
setattr(c, "new", 5)
print(c.new, "new" in dir(c), [n for n in dir(c) if n.startswith("si")])
delattr(c, "new")
print(hasattr(c, "new"), Child.__name__, Child.make.__name__, callable(c.secret))
# ---
from abc import ABC, abstractmethod, ABCMeta
class Shape(ABC):
    @abstractmethod
    def area(self): ...
class Sq(Shape):
    def __init__(self, s): self.s = s
    def area(self): return self.s ** 2
class Old(metaclass=ABCMeta):
    @abstractmethod
    def f(self): pass
print(Sq(3).area())
for cls in (Shape, Old):
    try:
        cls()
    except TypeError as e:
        print("abstract", cls.__name__)
# ---
import functools, time
def timed(label="x"):
    def deco(fn):
        @functools.wraps(fn)
        def wrapper(*args, **kwargs):
            wrapper.calls += 1
            return fn(*args, **kwargs)
        wrapper.calls = 0
        return wrapper
    return deco

@timed("lbl")
def work(a, /, b, *, c=3):
    "Docs."
    return a + b + c

print(work(1, 2), work(1, b=2, c=0), work.calls, work.__name__, work.__doc__)

@functools.cache
def f(n): return n
f(1); f(1)
print(f.cache_info().hits, functools.reduce(lambda a, b: a * b, [1, 2, 3]), functools.partial(work, 1)(2))

def memo(fn):
    cache = {}
    def inner(*a):
        if a not in cache:
            cache[a] = fn(*a)
        return cache[a]
    inner.__name__ = fn.__name__
    inner.cache = cache
    return inner
@memo
def g(x): return x
print(g(2), g.cache, g.__name__)
# ---
import asyncio
async def fetch(i, sem):
    async with sem:
        await asyncio.sleep(0.001 * (3 - i))
        return i * 10
async def agen():
    for i in range(3):
        yield i
async def main():
    sem = asyncio.Semaphore(2)
    tasks = [asyncio.create_task(fetch(i, sem)) for i in range(3)]
    out = await asyncio.gather(*tasks, return_exceptions=True)
    async for x in agen():
        out.append(x)
    out.append([y async for y in agen()])
    try:
        await asyncio.wait_for(asyncio.sleep(5), timeout=0.01)
    except asyncio.TimeoutError:
        out.append("timeout")
    for coro in asyncio.as_completed([fetch(1, sem), fetch(2, sem)]):
        out.append(await coro)
    loop = asyncio.get_running_loop()
    out.append(await loop.run_in_executor(None, len, "abc"))
    out.append(await asyncio.to_thread(len, "abcd"))
    return out
print(asyncio.run(main()))
async def q():
    queue = asyncio.Queue()
    await queue.put(1)
    return await queue.get()
print(asyncio.get_event_loop_policy() if False else asyncio.run(q()))
# ---
from concurrent.futures import ThreadPoolExecutor, as_completed
import concurrent.futures
def job(x):
    if x == 2:
        raise ValueError("two")
    return x * x
with ThreadPoolExecutor(max_workers=4) as pool:
    futures = {pool.submit(job, i): i for i in range(4)}
    results = {}
    for fut in as_completed(futures):
        try:
            results[futures[fut]] = fut.result()
        except ValueError as e:
            results[futures[fut]] = str(e)
print(sorted(results.items()))
with concurrent.futures.ThreadPoolExecutor() as ex:
    print(list(ex.map(pow, [1, 2], [3, 4])), ex.submit(len, "a").result())
# ---
import re
from collections import Counter, defaultdict, OrderedDict, deque, ChainMap, namedtuple
text = "The cat. The dog! A cat?\n2024-01-05 ERROR [db] x=1\n2024-01-06 INFO [web] y=2"
for m in re.finditer(r"(?P<date>\d{4}-\d\d-\d\d) (?P<level>\w+) \[(\w+)\]", text):
    print(m.group("date"), m["level"], m.groups(), m.span(), m.start(3), m.groupdict())
print(re.split(r"[.!?]\s*", text.split("\n")[0]), re.sub(r"(\w+)=(\d)", r"\2=\1", text)[-3:], re.escape("a.b"), re.fullmatch("a+", "aaa") is not None)
pattern = re.compile(r"""
    (\w+)   # word
    \s+cat
""", re.VERBOSE | re.IGNORECASE)
print(pattern.findall(text), pattern.pattern.strip()[:5], pattern.flags & re.I, re.compile(r"(\w)at").sub(r"\1og", "cat"), re.match(r"(a)", "ab").expand(r"<\1>"))
words = Counter(re.findall(r"\w+", text.lower()))
words.update(["cat"])
words["zebra"] += 1
print(words.most_common(2), sum(words.values()), words - Counter(["the"] * 5), (words & Counter(["cat"])))
dd = defaultdict(lambda: defaultdict(int))
dd["a"]["b"] += 1
od = OrderedDict(sorted({"b": 1, "a": 2}.items()))
od.move_to_end("a")
dq = deque([1, 2, 3], maxlen=3)
dq.append(4)
dq.rotate(1)
print(dict(dd["a"]), list(od), dq, ChainMap({"x": 1}, {"y": 2})["y"])
# ---
from datetime import datetime, timedelta, date, timezone
import calendar, time
d = datetime.strptime("2024-02-28 13:45", "%Y-%m-%d %H:%M")
print(d + timedelta(days=2), d.strftime("%b %d, %Y"), d.isoformat(), (date(2024, 3, 1) - d.date()).days, d.weekday(), f"{d:%Y/%m}")
print(datetime.fromisoformat("2024-01-01T00:00:00+00:00").tzinfo, calendar.monthrange(2024, 2), datetime(2024, 1, 1, tzinfo=timezone.utc).timestamp())
start = time.time(); time.sleep(0); assert time.perf_counter() > 0
# ---
import json, csv, io, math, statistics, random, string, textwrap, hashlib, base64, html, itertools, operator, bisect, heapq, copy
data = json.loads('{"a": [1, 2.5, null, true], "b": {"c": "é"}}')
print(json.dumps(data, indent=2, ensure_ascii=False), json.dumps({1, 2}, default=list))
try:
    json.loads("{bad}")
except json.JSONDecodeError as e:
    print(e.msg, e.pos, e.lineno)
reader = csv.DictReader(io.StringIO("name,qty\nx,1\n\"y, z\",2\n"))
rows = list(reader)
print(rows, reader.fieldnames)
out = io.StringIO()
w = csv.writer(out)
w.writerow(["a", "b,c"])
w2 = csv.DictWriter(out, fieldnames=["k"]); w2.writeheader(); w2.writerows([{"k": 1}])
print(repr(out.getvalue()))
print(math.sqrt(2), math.pi, math.log(10, 10), math.inf > 1, math.isnan(float("nan")), math.comb(5, 2), math.prod([2, 3]))
print(statistics.median([3, 1, 2]), round(statistics.stdev([1, 2, 3, 4]), 3), statistics.mode("aab"))
random.seed(42); print(random.randint(1, 10), random.random(), random.sample(range(10), 2), random.shuffle([1]))
print(random.Random(3).choice("abc"), string.ascii_lowercase[:3], string.punctuation[:3], textwrap.shorten("a b c d e f", 7), textwrap.dedent("  x"), textwrap.fill("aaa bbb", 3))
print(hashlib.md5(b"x").hexdigest(), hashlib.sha256("é".encode()).hexdigest()[:8], base64.b64encode(b"hi").decode(), html.unescape("&amp;&eacute;"))
print(list(itertools.combinations("abc", 2)), list(itertools.zip_longest([1], [2, 3])), list(itertools.accumulate([1, 2, 3])), [list(g) for k, g in itertools.groupby([1, 1, 2])], list(itertools.chain.from_iterable([[1], [2]])))
print(sorted([{"a": 2}, {"a": 1}], key=operator.itemgetter("a")), sorted([d2 for d2 in [3 + 4j, 1j]], key=operator.attrgetter("imag")), operator.methodcaller("upper")("x"))
h = [3, 1, 2]; heapq.heapify(h); print(heapq.heappop(h), heapq.nlargest(1, h), bisect.bisect_left([1, 3], 2))
x = [[1], {"a": [2]}]; y = copy.deepcopy(x); y[1]["a"].append(3); print(x, y, copy.copy(x) == x)
# ---
from decimal import Decimal, getcontext, ROUND_HALF_UP
from fractions import Fraction
getcontext().prec = 6
print(Decimal(1) / 3, Decimal("2.675").quantize(Decimal("0.01"), rounding=ROUND_HALF_UP), Fraction(1, 3) + Fraction(1, 6))
import unicodedata, difflib, struct, zlib, uuid, urllib.parse, string
print(unicodedata.normalize("NFKD", "é") == "e\u0301", difflib.get_close_matches("appel", ["apple", "x"]), round(difflib.SequenceMatcher(None, "abc", "abd").ratio(), 2))
print("\n".join(difflib.unified_diff(["a"], ["b"], lineterm="")), struct.unpack("<H", b"\x01\x00"), zlib.crc32(b"a"), urllib.parse.urlparse("http://a.b/c?d=e").netloc, urllib.parse.quote("a b"))
print(string.Template("$x!").substitute(x=1), string.Formatter().format("{0.real} {a[k]}", 3, a={"k": 1}), "{0.imag:.1f} {1[0]}".format(2j, [5]), "{:>{w}}".format("a", w=3), "{a}".format_map({"a": 1}), uuid.UUID(int=1))
# ---
try:
    try:
        {}["k"]
    except KeyError as e:
        raise ValueError("outer") from e
except ValueError as e:
    print(e, repr(e.__cause__), e.args)
class MyError(Exception):
    def __init__(self, msg, code):
        super().__init__(msg)
        self.code = code
try:
    raise MyError("m", 5)
except MyError as err:
    print(err, err.code)
else:
    print("no")
finally:
    print("finally")
try:
    int("x")
except:
    print("bare")
import traceback, sys
try:
    1 / 0
except ZeroDivisionError:
    print("ZeroDivisionError" in traceback.format_exc())
print("to stderr", file=sys.stderr) if False else None
print(sys.version_info >= (3, 8), sys.maxsize > 2**31, sys.getsizeof([]) > 0)
_ = sys.stdout.write("raw\n")
# ---
def gen():
    x = yield 1
    print("got", x)
    yield from [2, 3]
    return 4
g = gen(); print(next(g), g.send("s"), list(g))
def outer():
    r = yield from gen2()
    print("ret", r)
def gen2():
    yield 0
    return "done"
list(outer())
a, *b, c = range(5); print(a, b, c)
(x, y), z = (1, 2), 3
print(x, y, z, [i for i in range(10) if i % 2 if i > 3], {k: v for k, v in zip("ab", [1, 2])}, {i % 3 for i in range(9)}, (lambda *a, **k: (a, k))(1, b=2))
if (n := len("abc")) > 2: print(f"{n=} {n!r:>4} {n:03d} {'nested ' + f'{n}'}")
for i in range(3):
    if i == 5: break
else:
    print("no break")
while True:
    n -= 1
    if n < 0: break
    continue
print(any(x > 1 for x in [1, 2]), all([]), sum([1, 2], 3), min("b", "a"), max([1, 5], key=lambda v: -v), abs(-1), divmod(7, 2), pow(2, 3, 5), round(2.567, 1), chr(97), ord("a"), hex(255), bin(3), oct(8))
print(list(reversed([1, 2])), list(enumerate("ab", 1)), list(map(str, [1])), list(filter(None, [0, 1])), sorted([3, 1], reverse=True), isinstance(1, (int, str)), list(zip(*[(1, 2), (3, 4)])), bytes([65]).decode(), bytearray(b"x"), complex(1, 2), frozenset([1]), slice(1, 2), type([]) == list, type("x").__name__, id(1) == id(1), hash("a") == hash("a"))
print("%s %(a)s" % {"a": 1} if False else "%(a)05.1f" % {"a": 2.5}, "a,b;c".replace(";", ",").split(","), "x".join("abc"), " a ".strip(), "abc"[::-1], "Abc".swapcase(), "a\tb".expandtabs(4), "z".zfill(3), "ab".center(6, "*"), "a-b".partition("-"), "line1\nline2".splitlines(), "é".encode("utf-8"), "ß".casefold(), "abcabc".rfind("b"), "a".isalpha(), "x=1".removeprefix("x="))
total = 0
def add(n):
    global total
    total += n
add(5); print(total)
assert total == 5, "bad"
del total
try:
    total
except NameError as e:
    print(e)
print(1 if True else 2, not None, 1 < 2 < 3, None is None, [1, 2] + [3], [0] * 3, 7 // 2, 7 % 3, 2 ** 10, 5 & 3, 5 | 3, 5 ^ 3, ~5, 1 << 4, "a" in "abc", 0.1 + 0.2, 1e10, 1_000, 0xff, 0b11)
# ---
import contextlib, io, logging, warnings, pprint, types
buf = io.StringIO()
with contextlib.redirect_stdout(buf):
    print("captured")
print(repr(buf.getvalue()))
with contextlib.suppress(KeyError):
    {}["x"]
@contextlib.contextmanager
def tag(name):
    print(f"<{name}>")
    try:
        yield name.upper()
    finally:
        print(f"</{name}>")
with tag("b") as t, tag("i"):
    print(t)
warnings.filterwarnings("ignore")
pprint.pprint({"b": list(range(30)), "a": "x" * 50})
ns = types.SimpleNamespace(a=1); ns.b = 2; print(ns, ns.a)
logger = logging.getLogger(__name__); logging.basicConfig(level=logging.ERROR); logger.info("quiet %s", 1)
from io import StringIO, BytesIO
for line in StringIO("a\nb\n"): print(line.rstrip())
print(BytesIO(b"xyz").read(2))
# ---
def main():
    rows = []
    for _ in range(2):
        rows.append(_)
    __private = 3
    _x, __ = 1, 2
    return rows, __private, _x, __
if __name__ == "__main__":
    print(main())
x: int = 5
y: "list[int]"
def f(a: "int" = 1, *args: str, b: "Unknown" = None, **kw: dict) -> None: pass
print(x, f())
# ---
from __future__ import annotations
from dataclasses import dataclass
@dataclass
class Node:
    value: int
    left: Node | None = None
    right: Node | None = None
    def insert(self, v: int) -> Node:
        side = "left" if v < self.value else "right"
        child = getattr(self, side)
        if child is None:
            setattr(self, side, Node(v))
        else:
            child.insert(v)
        return self
    def walk(self):
        if self.left: yield from self.left.walk()
        yield self.value
        if self.right: yield from self.right.walk()
t = Node(5)
for v in (3, 8, 1): t.insert(v)
print(list(t.walk()))
# ---
import os, sys, os.path as osp
from os.path import basename
print(os.path.join("a", "b.txt"), os.path.splitext("b.txt")[1], osp.basename("/x/y"), basename("q/z"), os.sep)
import collections.abc, typing as t
print(isinstance([], collections.abc.Sequence), t.cast(int, "x"), t.Optional[int])
from re import *
print(findall("a", "banana"), "name" in globals(), sorted(k for k in locals() if k == "osp"))
try:
    import numpy as np
except ImportError:
    np = None
print(np if np is None else "numpy")
globals()["dynamic"] = 7
print(dynamic)
class DotDict(dict):
    def __getattr__(self, k):
        try:
            return self[k]
        except KeyError as e:
            raise AttributeError(k) from e
    __setattr__ = dict.__setitem__
    def __missing__(self, k): return "missing"
d = DotDict(a=1); d.b = 2; print(d.a, d["b"], d["zz"], d)
class Meta:
    __slots__ = ("a",)
    def __init__(self, a): self.a = a
    def __len__(self): return 3
    def __format__(self, spec): return f"<{spec}>"
    def __index__(self): return 2
    def __del__(self): pass
print(len(Meta(1)), f"{Meta(1):abc}", [10, 20, 30][Meta(1)], sorted({"b": 1, "a": 2}.items(), key=lambda kv: kv[1]))
