"""What to use in place of something that is not in the sandbox."""

from __future__ import annotations

CONTEXT = "there are no files here: the documents are already in `context`"
NETWORK = "there is no network here: everything there is to read is in `context`"
PARALLEL = "there are no threads or processes here: llm_query_batched(prompts) runs calls in parallel"
PLAIN_CODE = "write the code itself into the cell; ast.literal_eval() and json.loads() read literals"
SYSTEM = "there is no operating system here: the documents are in `context`, and plain Python works on them"

_MODELS = (
    "openai anthropic litellm langchain langchain_core langchain_openai langchain_community langchain_text_splitters "
    "llama_index transformers torch tensorflow sentence_transformers ollama vllm google cohere mistralai groq"
).split()
MODULES = {
    **dict.fromkeys(("glob", "shutil", "tempfile", "fileinput", "zipfile", "tarfile", "gzip", "bz2", "lzma"), CONTEXT),
    **dict.fromkeys(("docx", "openpyxl", "pypdf", "PyPDF2", "fitz", "PIL", "cv2", "dotenv", "datasets"), CONTEXT),
    **dict.fromkeys(("socket", "requests", "httpx", "aiohttp", "http", "ftplib", "smtplib", "ssl", "urllib3"), NETWORK),
    **dict.fromkeys(("multiprocessing", "_thread", "joblib", "signal", "dask", "ray"), PARALLEL),
    **dict.fromkeys(
        ("subprocess", "ctypes", "platform", "resource", "pty", "posix", "getpass", "gc", "psutil"), SYSTEM
    ),
    **dict.fromkeys(
        ("pickle", "marshal", "shelve", "dill", "yaml", "orjson", "ujson", "simplejson"),
        "use json; variables live on between cells",
    ),
    **dict.fromkeys(
        ("pandas", "numpy", "polars", "scipy", "networkx", "sympy"), "use csv, statistics, math and collections"
    ),
    **dict.fromkeys(
        ("nltk", "sklearn", "spacy", "rapidfuzz", "thefuzz", "fuzzywuzzy", "gensim"),
        "use re, difflib, collections and search()",
    ),
    **dict.fromkeys(("bs4", "lxml", "xml", "html5lib"), "use re and html.unescape()"),
    **dict.fromkeys(_MODELS, "call llm_query(prompt)"),
    **dict.fromkeys(("dis", "code", "builtins", "importlib", "runpy", "tokenize", "symtable"), PLAIN_CODE),
    **dict.fromkeys(
        ("matplotlib", "seaborn", "plotly", "rich", "tabulate"), "nobody sees pictures: print() the figures"
    ),
    **dict.fromkeys(("pydantic", "attr", "attrs"), "use dataclasses"),
    **dict.fromkeys(("unittest", "pytest", "doctest"), "use assert"),
    "argparse": "there is no command line here: set variables",
    "pip": "nothing can be installed here: the standard library does most of it",
    "tqdm": "loop over the items themselves",
    "typing_extensions": "use typing",
    "pytz": "use zoneinfo",
    "locale": "format numbers with f'{n:,}'",
    "configparser": "use re or str.partition('=') on the lines",
    "sqlite3": "search(words) finds passages of `context`; use dicts and sorted() for tables",
    "dateutil": "use datetime.datetime.strptime() or fromisoformat()",
    "regex": "use re",
    "tiktoken": "len(text) // 4 is a fair guess of the number of tokens",
}

BUILTINS = {
    "open": CONTEXT,
    "input": "nobody can answer here: work with `context` and `query`",
    "eval": PLAIN_CODE,
    "exec": PLAIN_CODE,
    "compile": PLAIN_CODE,
    "breakpoint": "print() what you want to see",
    "help": "print() what you want to see",
    "exit": "a cell ends at its last line; FINAL(answer) gives the answer",
    "quit": "a cell ends at its last line; FINAL(answer) gives the answer",
}


def module_hint(name: str) -> str:
    """What to use in place of a module, as the end of a sentence; names the modules there are if nothing fits."""
    if hint := MODULES.get(name.partition(".")[0]):
        return f"; {hint}"
    if name.startswith("urllib"):
        return f"; {NETWORK}"
    from rlm_integrations.sandbox.modules import names

    return "; the modules here are " + ", ".join(names())


ATTRIBUTES = {
    **dict.fromkeys(("Condition", "Barrier", "Timer"), f"; {PARALLEL}"),
    **dict.fromkeys(("SystemRandom", "getrandbits"), "; random.random() and secrets.token_hex() need no system"),
    **dict.fromkeys(("open_connection", "open_unix_connection", "start_server", "start_unix_server"), f"; {NETWORK}"),
    **dict.fromkeys(("create_subprocess_shell", "create_subprocess_exec"), f"; {PARALLEL}"),
    **dict.fromkeys(("FileHandler", "handlers", "config"), "; print() what you want to see"),
    **dict.fromkeys(("file_digest",), f"; {CONTEXT}; hashlib.sha256(data) takes bytes"),
    **dict.fromkeys(
        ("stack", "currentframe", "trace", "getouterframes", "print_stack", "format_stack", "extract_stack"),
        "; traceback.format_exc() shows where an error came up",
    ),
    **dict.fromkeys(("clock_settime", "tzset"), "; datetime and zoneinfo know of time zones"),
    **dict.fromkeys(("finalize", "proxy"), "; use try/finally, or weakref.ref()"),
    **dict.fromkeys(("CodeType", "FrameType", "TracebackType", "ModuleType", "new_class"), f"; {PLAIN_CODE}"),
}
BY_MODULE = {
    **dict.fromkeys(("asyncio", "concurrent.futures", "threading"), PARALLEL),
    "contextlib": "use a try statement or a contextmanager of your own",
    "logging": "print() what you want to see",
    "pathlib": CONTEXT,
    "traceback": "str(error) says what went wrong; traceback.format_exc() shows where",
}


def attribute_hint(module: str, name: str = "") -> str:
    """What to use in place of a function of a module that is only there in part."""
    if name in ATTRIBUTES:
        return f" here{ATTRIBUTES[name]}"
    if module == "os":
        return f" here; {SYSTEM}; os.path's functions of strings work"
    if module in ("ast", "types", "inspect", "functools", "typing"):
        return f" here; {PLAIN_CODE}"
    if module == "os.path":
        return f" here; {CONTEXT}"
    if module == "sys":
        return f" here; {SYSTEM}"
    if module == "io":
        return f" here; {CONTEXT}"
    if module == "urllib":
        return f" here; {NETWORK}"
    return f" here; {BY_MODULE.get(module, f'dir({module}) names what there is')}"
