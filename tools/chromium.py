"""A headless Chromium, driven by playwright: the one of the system, none is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync", "--disable-quic", "--font-render-hinting=none"]
MISSING = (
    "no Chromium or Chrome found: install one of them; on the PATH it is looked for under the names "
    f"{', '.join(NAMES)}"
)


def installed() -> str | None:
    """The path of the program that is on the PATH, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A running browser, closed on leaving.

    Raises  SystemExit: there is none, or playwright is missing; it says what to install
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("playwright is not installed: pip install -c constraints.txt -e '.[test]'") from None
    with sync_playwright() as playwright:
        running = launch(playwright.chromium)
        try:
            yield running
        finally:
            running.close()


def launch(chromium: Any) -> Any:
    """The one on the PATH; or Chrome where its installers put it, which on macOS and Windows is elsewhere.

    Raises  SystemExit: neither is there
    """
    path = installed()
    if path is not None:
        return chromium.launch(executable_path=path, args=OPTIONS)
    from playwright.sync_api import Error

    try:
        return chromium.launch(channel="chrome", args=OPTIONS)
    except Error as error:
        if "is not found" not in str(error):
            raise
        raise SystemExit(MISSING) from None
