"""The README's two pictures, of a report of simulated systems: `docs/pictures/`.

    python benchmarks/pictures.py

Needs Debian's chromium (or $CHROMIUM) and the package playwright.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from report import make_folder

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]

SHOTS = {"report-light.png": ("light", "#validation"), "report-dark.png": ("dark", "#predicted-against-true")}


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary) / "made"
        make_folder(folder)
        subprocess.run([sys.executable, "-m", "abaw_emi", "report", "--quiet"], cwd=folder, check=True)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for name, (theme, place) in SHOTS.items():
            page = browser.new_page(
                viewport={"width": 1280, "height": 860}, color_scheme=theme, reduced_motion="reduce"
            )
            page.goto((folder / "report.html").as_uri())
            page.locator(place).evaluate("element => element.scrollIntoView()")
            page.wait_for_timeout(300)  # players draw themselves late
            save(page.screenshot(), name)
        browser.close()


def save(png: bytes, name: str) -> None:
    Image.open(io.BytesIO(png)).convert("RGB").save(PICTURES / name, optimize=True)
    print(f"{name}: {(PICTURES / name).stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
