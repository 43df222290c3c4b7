"""Make the pictures of the preview and of the local page in docs/figures, from the sample.

    python -m tools.page_figures

Previews the sample and runs it on the page, for real, in a cache of its own, which takes some
minutes; needs playwright and Debian's chromium (apt-get install chromium).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
SAMPLE = ROOT / "samples" / "clip.mp4"
SIZE: Any = {"width": 1100, "height": 1200}
MINUTES = 30
"""Time for a run on a busy machine."""


def main() -> None:
    """Write `preview.png` and `ui.png`."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or sys.exit("chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        environment = os.environ | {"VSR_CACHE": str(Path(work, "cache"))}
        clips = Path(work, "clips")
        clips.mkdir()
        shutil.copy(SAMPLE, clips / "clip.mp4")
        command = [sys.executable, "-m", "vsr"]
        page = Path(work, "preview.html")
        subprocess.run(
            [*command, "preview", str(SAMPLE), "-o", str(page)], check=True, env=environment
        )
        browser = playwright.chromium.launch(executable_path=chromium)
        opened = browser.new_page(viewport=SIZE, color_scheme="light")
        opened.goto(page.as_uri())
        opened.wait_for_selector("html[data-ready]", state="attached")
        opened.wait_for_selector("#loops[data-frame]")
        opened.screenshot(path=FIGURES / "preview.png", full_page=True, clip=_above(opened))
        server = subprocess.Popen(
            [*command, "ui", "--folder", str(clips)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert server.stdout is not None
        opened = browser.new_page(viewport=SIZE, color_scheme="dark")
        opened.goto(server.stdout.readline().strip())
        opened.get_by_text("clip.mp4").click()
        opened.wait_for_selector("#shots img", timeout=MINUTES * 60_000)
        opened.click("#run")
        opened.wait_for_selector(
            "li[data-state=running] .newest:not([hidden])", timeout=MINUTES * 60_000
        )
        opened.select_option("[name=quality]", "best")
        opened.click("#run")
        opened.wait_for_selector("li[data-state=waiting]")
        # Pictures of the newest frame are loaded.
        opened.wait_for_timeout(1500)
        opened.screenshot(path=FIGURES / "ui.png", full_page=True)
        server.terminate()
        server.wait()
        browser.close()


def _above(page: Any) -> Any:
    """Return the part of a report from its top to the end of the moving pictures."""
    end = page.evaluate("document.getElementById('loops').getBoundingClientRect().bottom + scrollY")
    return {"x": 0, "y": 0, "width": SIZE["width"], "height": end + 16}


if __name__ == "__main__":
    main()
