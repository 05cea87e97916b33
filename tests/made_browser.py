"""Headless Chromium for the tests that look at pages."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

import pytest


def _missing() -> str:
    """Why there is no browser to test with; empty where there is one."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return "" if browser and driver else "no Chromium with its driver (Debian: chromium chromium-driver)"


needs_browser = pytest.mark.skipif(bool(_missing()), reason=_missing() or "there is a browser")


@contextlib.contextmanager
def browsers() -> Iterator[Callable]:
    """A function that starts headless Chromium with a window of some size; all are closed in the end."""
    from selenium import webdriver

    started = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def start(width: int, height: int) -> webdriver.Chrome:
            options = webdriver.ChromeOptions()
            options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
            flags = (
                "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
                f"--disable-component-update --disable-sync --disable-dev-shm-usage --window-size={width},{height}"
            )
            for flag in [*flags.split(), f"--user-data-dir={profile}/{len(started)}"]:
                options.add_argument(flag)
            options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
            service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
            started.append(webdriver.Chrome(options=options, service=service))
            return started[-1]

        try:
            yield start
        finally:
            for browser in started:
                browser.quit()
