"""Pages opened in Debian's Chromium; each of them is checked to make no noise and no request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 100_000
INSTALL = "these tests need a browser: apt-get install --no-install-recommends chromium, or set CHROMIUM to its path"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless Chromium for this folder: until it is closed, this thread has a running event loop."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip(INSTALL)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses to be started by root.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens a page given as HTML; one that is ``checked`` may log nothing, ask no network, and raise no error."""
    heard: list[str] = []
    contexts = []

    def open_page(html: str, checked: bool = True, **options: object) -> Page:
        file = tmp_path / f"run{len(contexts)}.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(**({"viewport": {"width": 1300, "height": 900}} | options))
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        noise = heard if checked else []
        page.on("console", lambda message: noise.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: noise.append(f"error: {error}"))
        page.on("dialog", lambda dialog: noise.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: request.url != file.as_uri() and noise.append(f"request: {request.url}"))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []
