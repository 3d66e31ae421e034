"""Write the screenshots of the documentation: a report, a comparison and a benchmark of the embedded example.

Needs Chromium (`apt-get install chromium`) and takes about a minute: `python docs/screenshots.py`.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).with_name("images")
WIDTH = 1200
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
    f"--window-size={WIDTH},1000",
)
LARGEST = 300_000  # bytes of a PNG


def longtail(*arguments: str, folder: Path) -> None:
    """Run a longtail command in a folder."""
    subprocess.run([sys.executable, "-c", "from longtail.cli import main; main()", *arguments], cwd=folder, check=True)


def write_pages(folder: Path) -> dict[str, Path]:
    """Train and write the three pages.

    Returns:
        Path of each page by the name of its screenshot.
    """
    longtail("train", "digits-lt", "--method", "balanced-softmax", "--out", "balanced-softmax", folder=folder)
    longtail("train", "digits-lt", "--method", "ce", "--out", "ce", folder=folder)
    longtail("compare", "ce", "balanced-softmax", folder=folder)
    methods = ("ce", "balanced-softmax", "crt", "la-posthoc")
    longtail("bench", "quick", "--only", *methods, "--out", "bench", folder=folder)
    return {
        "report": folder / "balanced-softmax" / "report.html",
        "comparison": folder / "comparison.html",
        "bench": next((folder / "bench").glob("*/index.html")),
    }


def capture(page: Path, target: Path, scratch: Path) -> None:
    """Write the top of a page as a PNG with a palette of 128 colors.

    Raises:
        SystemExit: If Chromium is missing or the PNG is too large.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is needed: apt-get install chromium")
    raw = scratch / f"{target.stem}.png"
    profile = f"--user-data-dir={scratch / 'profile'}"
    command = [browser, *FLAGS, profile, f"--screenshot={raw}", page.resolve().as_uri()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Image.open(raw).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    if target.stat().st_size > LARGEST:
        raise SystemExit(f"{target} has {target.stat().st_size} bytes, more than {LARGEST}")


def main() -> None:
    """Write the screenshots to docs/images."""
    parser = argparse.ArgumentParser(description="Write the screenshots of the documentation.")
    parser.add_argument("--keep", type=Path, help="folder for the runs; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        folder = given.keep or scratch / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        IMAGES.mkdir(exist_ok=True)
        for name, page in write_pages(folder).items():
            capture(page, IMAGES / f"{name}.png", scratch)
            print(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
