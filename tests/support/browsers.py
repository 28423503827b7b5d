"""Chromium for tests of the console. Where it is missing they are skipped, but never in continuous integration."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = os.environ.get("MEMEDIT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
REQUIRED = bool(os.environ.get("CI")) or os.environ.get("MEMEDIT_BROWSER") == "required"
_MISSING = "no Chromium found; install it (Debian: apt-get install chromium) or set MEMEDIT_CHROMIUM"

needs_browser = pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason=_MISSING)
"""Put on a module of tests as ``pytestmark``."""


@contextmanager
def launched() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, _MISSING
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
