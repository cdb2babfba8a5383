#!/usr/bin/env python3
"""Run a notebook in a real JupyterLab in headless Chromium, and take pictures of it.

    scripts/notebook-screenshot.py [NOTEBOOK] [--out DIRECTORY] [--height PIXELS]

One picture has the light theme and one the dark theme. The script fails if a cell fails, if the
views of the notebook are invisible, or if the contrast of their text is too low. It needs
jupyterlab, playwright (the Python package) and Debian's chromium, which `make notebook-screenshot`
installs.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
MILLISECONDS = 60_000
# The lowest readable contrast (WCAG 2, level AA).
CONTRAST = 4.5

# The contrast between the text of every table cell of a view and the page behind it.
CONTRASTS = """
() => {
  const parts = text => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parts(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('.minidocker-view :is(td, th, code, b)')].map(node => {
    const [text, page] = [parts(getComputedStyle(node).color), behind(node)].map(light);
    return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
  });
}
"""


@contextmanager
def jupyterlab(directory: Path, theme: str) -> Iterator[str]:
    """Run a server without this user's settings, and yield its address."""
    settings = directory / "settings" / "@jupyterlab"
    for plugin, values in {
        "apputils-extension/themes": {"theme": theme},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        # Render the cells outside the window too.
        "notebook-extension/tracker": {"windowingMode": "none"},
    }.items():
        path = settings / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    environment = {
        **os.environ,
        "HOME": str(directory),
        "IPYTHONDIR": str(directory / "ipython"),
        "JUPYTER_CONFIG_DIR": str(directory / "config"),
        "JUPYTER_DATA_DIR": str(directory / "data"),
        "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(directory / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(directory / "workspaces"),
    }
    token = secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        "--port=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={directory}",
    ]  # fmt: skip
    log = directory / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield f"{address(server, log)}lab/tree/notebook.ipynb?token={token}"
    finally:
        server.terminate()  # SIGINT would make it ask for confirmation
        server.wait(30)


def address(server: subprocess.Popen, log: Path) -> str:
    """Wait until the server logs its address, and return it."""
    while server.poll() is None:
        if found := re.search(rb"(http://127\.0\.0\.1:\d+/)lab", log.read_bytes()):
            return found[1].decode()
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise SystemExit(f"JupyterLab did not start:\n{log.read_text()}")


def run_all(page: Page, url: str) -> None:
    """Open the notebook, run it, and wait until the last cell is done."""
    page.goto(url)
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=MILLISECONDS)
    # Without a ready kernel, JupyterLab would ask for one.
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=MILLISECONDS)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts).to_have_text([re.compile(r"\[\d+\]:")] * prompts.count(), timeout=MILLISECONDS)


def look(page: Page, picture: Path) -> list[str]:
    """Take the picture, and return the problems in it."""
    wrong = [
        f"a cell failed: {text}"
        for text in page.locator(
            "[data-mime-type='application/vnd.jupyter.error']"
        ).all_inner_texts()
    ]
    views = page.locator(".minidocker-view")
    if views.count() == 0 or not all(view.is_visible() for view in views.all()):
        wrong.append("a view of the host and the container is invisible")
    worst = min(page.evaluate(CONTRASTS), default=CONTRAST)
    if worst < CONTRAST:
        wrong.append(f"text in the picture has a contrast of {worst:.1f}, less than {CONTRAST}")
    page.keyboard.press("Escape")
    page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
    page.screenshot(path=picture)
    return wrong


def main() -> int:
    """Check the notebook in each theme, and return 0 without a problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "notebook", nargs="?", type=Path,
        default=ROOT / "examples" / "notebooks" / "01_what_namespaces_are.ipynb",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--height", type=int, default=4200, help="of the window, in pixels")
    chosen = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("notebook-screenshot: no chromium found. Remedy: apt-get install chromium")
    chosen.out.mkdir(parents=True, exist_ok=True)
    wrong = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, theme in THEMES.items():
            picture = chosen.out / f"{chosen.notebook.stem}-{name}.png"
            with tempfile.TemporaryDirectory() as temporary:
                directory = Path(temporary)
                shutil.copy(chosen.notebook, directory / "notebook.ipynb")
                with jupyterlab(directory, theme) as url:
                    page = browser.new_page(viewport={"width": 1280, "height": chosen.height})
                    run_all(page, url)
                    wrong += [f"{name}: {text}" for text in look(page, picture)]
                    page.close()
            print(picture)
        browser.close()
    for text in wrong:
        print(f"NO  {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
