"""Headless Chromium for the tests that look at pages."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
is_there = BROWSER and shutil.which("chromedriver") and importlib.util.find_spec("selenium")
needs_browser = pytest.mark.skipif(not is_there, reason="needs selenium, Chromium and its driver")


@contextlib.contextmanager
def browsers() -> Iterator[Callable]:
    """A function that starts headless Chromium with a window of some size; all are closed in the end."""
    from selenium import webdriver

    started = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def start(width: int, height: int) -> webdriver.Chrome:
            options = webdriver.ChromeOptions()
            options.binary_location = BROWSER
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
