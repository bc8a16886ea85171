"""The viewer in a browser: it is drawn, it follows a click, and asks nobody else for anything."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def served(source: Path) -> Iterator[str]:
    """Give the address of what `scanfold explore` serves."""
    command = [sys.executable, "-m", "scanfold", "explore", str(source), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            wait(lambda: answers(address))
            listening = {c.laddr.ip for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"}
            assert listening == {"127.0.0.1"}
            yield address
        finally:
            process.kill()


def test_a_click_in_the_browser_moves_the_position(browser: Any, store: Path, tmp_path: Path):
    with served(store) as page:
        check_click(browser, page, tmp_path)


def check_click(browser: Any, page: str, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

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


FIND = """
    function* all(root) {
      for (const e of root.querySelectorAll('*')) { yield e; if (e.shadowRoot) yield* all(e.shadowRoot); }
    }
    return [...all(document)].find(e => e.matches(arguments[0]) && e.textContent.includes(arguments[1]));
"""


def test_traces_are_fitted_from_the_page(browser: Any, tmp_path: Path):
    from selenium.webdriver.support.select import Select

    times = np.linspace(0, 10, 40)
    rows = "".join(f"{t},{90 * np.exp(-t / 2) + 10},{50 * np.exp(-t / 3) + 5}\n" for t in times)
    (tmp_path / "a.csv").write_text("time,0,1\n" + rows)
    with served(tmp_path) as page:
        browser.open(page)

        def find(kind: str, text: str) -> Any:
            return wait(lambda: browser.driver.execute_script(FIND, kind, text))

        find(".bk-tab", "fitting").click()
        Select(find("select", "exponential_decay")).select_by_visible_text("exponential_decay")
        find("button", "start").click()
        wait(lambda: (tmp_path / "a_fitted_exponential_decay.csv").exists(), 90)
        find(".bk-tab", "results").click()
        assert "100.0 % good" in find("pre, div.bk-clearfix", "2 cells:").text
        browser.driver.save_screenshot(str(tmp_path / "results.png"))
        assert browser.complaints() == []
