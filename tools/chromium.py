"""A headless Chromium, driven by playwright: the one of the system, none is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync", "--disable-quic", "--font-render-hinting=none"]
MISSING = "no Chromium or Chrome on the PATH; on Debian and Ubuntu: apt-get install chromium"


def installed() -> str | None:
    """The program's path, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A running browser, closed on leaving.

    Raises  SystemExit: there is none, or playwright is missing; it says what to install
    """
    path = installed()
    if path is None:
        raise SystemExit(MISSING)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("playwright is not installed: pip install -c constraints.txt -e '.[test]'") from None
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        try:
            yield running
        finally:
            running.close()
