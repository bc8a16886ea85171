"""The viewer in a browser: it is drawn, it follows a click, and asks nobody else for anything."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import psutil
import pytest


def wait(condition: Any, seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.1)
    return found


FRAME = """
    for (const view of window.Bokeh.index.roots ?? Object.values(window.Bokeh.index)) {
      const stack = [view];
      while (stack.length) {
        const v = stack.pop();
        if (v.model?.type === 'Figure' && v.frame) {
          const r = v.el.getBoundingClientRect(), b = v.frame.bbox;
          return [r.left + b.left, r.top + b.top, b.width, b.height];
        }
        stack.push(...(v.child_views ?? []).slice().reverse());
      }
    }
"""
MODELS = (
    "try {{ return [...window.Bokeh.documents[0].all_models].filter(m => m.type.endsWith('{}')){} }} catch (e) {{}}"
)


@pytest.fixture
def page(store: Path) -> Iterator[str]:
    """The address of what `scanfold explore` serves."""
    command = [sys.executable, "-m", "scanfold", "explore", str(store), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
        listening = [c.laddr.ip for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"]
        process.terminate()
    assert listening == ["127.0.0.1"]


def test_a_click_in_the_browser_moves_the_position(browser: Any, page: str, tmp_path: Path):
    from selenium.webdriver.common.action_chains import ActionChains

    wait(lambda: answers(page))
    browser.open(page)
    driver = browser.driver
    wait(lambda: (driver.execute_script(MODELS.format("Figure", ".length")) or 0) >= 3)
    left, top, width, height = wait(lambda: driver.execute_script(FRAME))
    # row 1 of 6, column 7 of 9
    chain = ActionChains(driver)
    chain.w3c_actions.pointer_action.move_to_location(int(left + width * 7.5 / 9), int(top + height * 1.5 / 6)).click()
    chain.perform()
    places = MODELS.format("Spinner", ".map(m => m.value)")
    wait(lambda: driver.execute_script(places) == [1, 7])
    picture = tmp_path / "page.png"
    driver.save_screenshot(str(picture))
    asked = {url.split("/")[2] for url in browser.asked() if url.startswith(("http", "ws"))}
    assert asked == {page.split("/")[2]}
    assert browser.complaints() == []
    colours = plain_pixels(picture).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 100  # a picture, not an empty page


def answers(page: str) -> bool:
    """Say whether something listens there."""
    host, port = page.split("/")[2].split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def plain_pixels(path: Path) -> Any:
    return (matplotlib.image.imread(path)[..., :3] * 255).astype(np.uint8)
