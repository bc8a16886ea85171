"""What every test shares."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# a failing draw is printed as a @reproduce_failure line; timing on a shared machine is no failure
settings.register_profile("scanfold", deadline=None, print_blob=True)
settings.load_profile("scanfold")
os.environ["MPLBACKEND"] = "Agg"
# a shell's background jobs ignore interrupts and their children inherit that: tests that interrupt a child need them
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: A browser that asks nobody on the network for anything.
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--window-size=1300,1000")  # fmt: skip


class Browser:
    """A browser without a screen: ``driver`` is selenium's."""

    def __init__(self, driver: Any):
        self.driver = driver

    def open(self, address: str) -> None:
        """Open a page, and forget what was asked for and said before."""
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(address)

    def asked(self) -> set[str]:
        """Return the addresses that the page asked for."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}

    def complaints(self) -> list[str]:
        """Return the errors that the browser has reported."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real measurements that SCANFOLD_REAL_DATA names."""
    folder = os.environ.get("SCANFOLD_REAL_DATA")
    if not folder:
        pytest.skip("SCANFOLD_REAL_DATA is not set: it names the folder of real measurements (not in the repo)")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"SCANFOLD_REAL_DATA={folder} is no folder")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium here (Debian: apt install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in QUIET:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield Browser(found)
    found.quit()
