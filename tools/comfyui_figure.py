"""Draw `docs/figures/comfyui.png`: the pack's workflow on ComfyUI's own page.

    python -m tools.comfyui_figure http://127.0.0.1:8188

Needs a ComfyUI that runs there with the pack, playwright and Debian's chromium.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / "integrations/comfyui/example_workflows/upscale_video_file.json"
SIZE: Any = {"width": 1400, "height": 640}
MINUTES = 10
"""Time for the page to load on a busy machine."""
LOAD = """async workflow => {
    await app.loadApiJson(workflow, "vsr");
    let left = 60;
    for (const node of app.graph._nodes) {
        node.setSize(node.computeSize());
        node.size[0] = 380;
        node.pos = [left, 70];
        left += 430;
    }
    app.canvas.ds.offset = [0, 0];
    app.canvas.ds.scale = 1;
    app.graph.setDirtyCanvas(true, true);
}"""


def main() -> None:
    """Load the workflow and take the picture."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or sys.exit("chromium is needed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport=SIZE, color_scheme="dark")
        page.set_default_timeout(MINUTES * 60_000)
        page.goto(sys.argv[1])
        page.wait_for_function("window.app && app.graph && app.canvas && app.extensionManager")
        page.wait_for_timeout(5000)
        page.keyboard.press("Escape")
        page.evaluate(LOAD, json.loads(WORKFLOW.read_text()))
        page.wait_for_timeout(3000)
        page.screenshot(path=ROOT / "docs" / "figures" / "comfyui.png")
        browser.close()


if __name__ == "__main__":
    main()
