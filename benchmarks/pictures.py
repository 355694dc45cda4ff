"""The README's picture, of the demo's report: `docs/pictures/`.

    abaw-emi demo && python benchmarks/pictures.py demo/report.html

Needs Debian's chromium (or $CHROMIUM) and the package playwright.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]

NAME = "report-light.png"


def main() -> None:
    (report,) = sys.argv[1:]
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(
            viewport={"width": 1280, "height": 860}, color_scheme="light", reduced_motion="reduce"
        )
        page.goto(Path(report).resolve().as_uri())
        page.locator("#validation").evaluate("element => element.scrollIntoView()")
        page.wait_for_timeout(300)  # players draw themselves late
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    # 256 colours: a third of the bytes, and no shade moves by more than 6 of 255.
    picture.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        PICTURES / NAME, optimize=True
    )
    print(f"{NAME}: {(PICTURES / NAME).stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
