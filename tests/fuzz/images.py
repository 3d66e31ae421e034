"""Damaged image files, and folders of them."""

import io
import os
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, features

from tests.fuzz.base import TRAIN, Base, noise
from tests.fuzz.mutations import corrupt
from tests.fuzz.sandbox import Case

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", *(("AVIF",) if features.check("avif") else ()))
MODES = {"PNG": ("L", "LA", "P", "1", "I;16", "RGBA"), "JPEG": ("L", "CMYK"), "TIFF": ("L", "I;16", "CMYK", "F", "P")}
SUFFIXES = (".png", ".jpg", ".tif", ".webp", ".gif", ".bmp", ".ppm", ".avif", "", ".PNG", ".jpeg.png")


def image_file(rng: Random, base: Base, box: Path) -> Case:
    """Damage one image of a folder."""
    kind = rng.choice(FORMATS)
    suffix = rng.choice(SUFFIXES) if rng.random() < 0.3 else f".{kind.lower()}"
    path = Path("data/images/bee") / f"odd{suffix}"
    (box / path).write_bytes(damaged_image(rng, kind))
    skip = ("--on-bad-image", "skip") if rng.random() < 0.3 else ()
    return Case("image files", (*_image_command(rng, str(path)), *skip), (path.name, "1.png"))


def _image_command(rng: Random, path: str) -> tuple[str, ...]:
    return rng.choice(
        (
            ("inspect", "data/images"),
            ("inspect", "data/images"),
            ("inspect", "data/images"),
            ("predict", "data/run", path, "--output", "out/p.csv"),
            ("predict", "data/run", "data/images", "--output", "out/p.csv"),
            ("features", "data/run", "data/images", "--output", "out/f.npz"),
            ("data", "export", "data/images", "--target", "out/folder"),
            ("train", "data/images", *TRAIN, "--out", "out/run"),
        )
    )


def damaged_image(rng: Random, kind: str) -> bytes:
    """Return the bytes of an image of a format with damage of a random kind."""
    data = _encoded(rng, kind)
    if rng.random() < 0.6:
        return corrupt(rng, data)
    return rng.choice((_huge, _bad_exif, _longest_sides, lambda rng, kind, data: data))(rng, kind, data)


def _encoded(rng: Random, kind: str) -> bytes:
    height, width = rng.choice(((12, 12), (1, 1), (1, 40), (13, 7), (70, 70)))
    mode = rng.choice(("RGB", "RGB", *MODES.get(kind, ())))
    if mode == "I;16":
        image = Image.fromarray(noise(rng, height, width, 2).view("<u2")[..., 0])
    elif mode == "F":
        image = Image.fromarray(noise(rng, height, width)[..., 0].astype(np.float32))
    else:
        image = Image.fromarray(noise(rng, height, width)).convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _huge(rng: Random, kind: str, data: bytes) -> bytes:
    """Return the image with a header that declares a huge number of pixels."""
    side = rng.choice((13_000, 65_000, 2**31 - 1))
    if kind == "PNG":
        header = struct.pack(">II", side, side) + data[24:29]
        return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]
    if kind == "GIF":
        return data[:6] + struct.pack("<HH", min(side, 65_000), min(side, 65_000)) + data[10:]
    if kind == "BMP":
        return data[:18] + struct.pack("<ii", side, rng.choice((side, -side))) + data[26:]
    start = data.find(b"\xff\xc0") if kind == "JPEG" else -1
    if start > 0:
        return data[: start + 5] + struct.pack(">HH", 65_000, 65_000) + data[start + 9 :]
    return corrupt(rng, data)


def _bad_exif(rng: Random, kind: str, data: bytes) -> bytes:
    """Return a JPEG, PNG or WebP image with damaged EXIF tags."""
    if kind not in ("JPEG", "PNG", "WEBP"):
        return corrupt(rng, data)
    exif = Image.Exif()
    exif[0x0112] = rng.choice((0, 3, 6, 9, 65535))
    exif[0x010E] = "x" * rng.choice((1, 3000))
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, kind, exif=b"Exif\0\0" + corrupt(rng, exif.tobytes()[6:])[:60_000])
    return file.getvalue()


def _longest_sides(rng: Random, kind: str, data: bytes) -> bytes:
    """Return a valid image that is very long."""
    file = io.BytesIO()
    size = rng.choice(((1, 16_000), (16_000, 1), (4000, 3)))
    Image.new("RGB", size, "red").save(file, "PNG" if kind == "AVIF" else kind)
    return file.getvalue()


def image_folder(rng: Random, base: Base, box: Path) -> Case:
    """Put something odd into a folder of images."""
    folder = box / "data" / "images"
    unprivileged = rng.choice(ODDITIES)(rng, folder)
    command = rng.choice((*[("inspect", "data/images")] * 4, *[_image_command(rng, "data/images/bee")] * 2))
    return Case("image folders", command, ("data/images", "odd", "bee"), unprivileged)


def _unreadable(rng: Random, folder: Path) -> bool:
    place = folder / rng.choice(("bee", "bee/0.png", "", "odd", "bee/odd"))
    if not place.exists():
        place.mkdir()
    place.chmod(rng.choice((0o000, 0o100, 0o400) if place.is_dir() else (0o000, 0o200)))
    return True


def _special(rng: Random, folder: Path) -> bool:
    path = folder / "bee" / rng.choice(("odd.png", "odd"))
    match rng.randrange(6):
        case 0:
            os.mkfifo(path)
        case 1:
            here = os.getcwd()
            os.chdir(path.parent)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(path.name)
            os.chdir(here)
        case 2:
            path.symlink_to(rng.choice(("/dev/zero", "/dev/null", "/proc/self/mem", "/proc/self/environ", "/dev/tty")))
        case 3:
            path.symlink_to(rng.choice(("odd.png", "missing.png", "..", ".", "/", "../../../..")))
        case 4:
            path.mkdir()
        case _:
            folder.joinpath("odd").symlink_to(rng.choice((".", "bee", "/proc", "/dev", "missing", "odd")))
    return False


def _named(rng: Random, folder: Path) -> bool:
    names = (
        b"odd\xff.png", b"odd\nline.png", b"odd[red].png", b"odd\x1b[31m.png", b"odd\xe2\x80\xae.png", b"-odd.png",
        b"odd,\".png", b"odd\\.png", b"o" * 250 + b".png", b"odd\xed\xa0\x80.png", b"=odd.png", b" odd .png",
        b"odd%s.png",
    )  # fmt: skip
    name = os.path.join(os.fsencode(folder), rng.choice((b"bee", b"")), rng.choice(names))
    if rng.random() < 0.5:
        shutil.copy(folder / "bee" / "0.png", name)
    else:
        os.mkdir(name)
        shutil.copy(folder / "bee" / "0.png", os.path.join(name, b"odd.png"))
    return False


def _structure(rng: Random, folder: Path) -> bool:
    match rng.randrange(8):
        case 0:
            (folder / "odd").mkdir()
        case 1:
            for name in ("train", "test"):
                shutil.copytree(folder / "ant", folder / name / rng.choice(("ant", "odd", "")), dirs_exist_ok=True)
        case 2:
            shutil.rmtree(folder / "bee")
            shutil.rmtree(folder / "cat")
        case 3:
            shutil.rmtree(folder)
            folder.mkdir()
        case 4:
            deep = folder / "bee"
            for _ in range(15):
                deep = deep / ("d" * 200)
            here = os.getcwd()
            os.chdir(folder / "bee")
            for _ in range(40):  # longer than a path may be
                os.mkdir("d" * 200)
                os.chdir("d" * 200)
            os.chdir(here)
        case 5:
            for name in ("a\u0308", "ä"):
                shutil.copytree(folder / "ant", folder / name)
        case 6:
            shutil.rmtree(folder)
            folder.write_bytes(b"odd")
        case _:
            for path in folder.rglob("*.png"):
                path.write_bytes(b"")
    return False


ODDITIES: tuple[Callable[[Random, Path], bool], ...] = (_unreadable, _special, _named, _structure)
