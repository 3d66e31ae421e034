import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from longtail.data.decode import (
    BadImage,
    Decoding,
    check_image,
    decode_image,
    image_shape,
)
from longtail.errors import InputError
from tests.data.helpers import noise, save


def as_array(pixels: torch.Tensor) -> np.ndarray:
    assert pixels.dtype == torch.uint8
    return pixels.permute(1, 2, 0).numpy()


def test_png_keeps_every_bit(tmp_path: Path) -> None:
    image = noise(0, 7, 5)
    np.testing.assert_array_equal(as_array(decode_image(save(tmp_path / "a.png", image))), np.array(image))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}])
def test_jpeg_agrees_with_pillow(tmp_path: Path, mode: str, options: dict) -> None:
    path = save(tmp_path / "a.jpg", noise(1, 40, 24).convert(mode), **options)
    expected = np.array(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(as_array(decode_image(path)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tif", ".ppm"])
def test_other_lossless_formats(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", noise(2), **options)
    np.testing.assert_array_equal(as_array(decode_image(path)), np.array(noise(2)))


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = noise(3).convert("L")
    pixels = decode_image(save(tmp_path / "a.png", grey))
    for channel in pixels:
        np.testing.assert_array_equal(channel.numpy(), np.array(grey))


def test_black_and_white(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1"))
    assert decode_image(path).tolist() == [[[0, 255]]] * 3


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putpixel((0, 0), (200, 100, 0, 255))
    image.putpixel((1, 0), (200, 100, 0, 0))
    image.putpixel((2, 0), (200, 100, 0, 51))  # a fifth: 0.2 * color + 0.8 * 255
    pixels = decode_image(save(tmp_path / "a.png", image))
    assert pixels[:, 0, 0].tolist() == [200, 100, 0]
    assert pixels[:, 0, 1].tolist() == [255, 255, 255]
    assert pixels[:, 0, 2].tolist() == [244, 224, 204]


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1), (10, 255))
    image.putpixel((1, 0), (10, 0))
    assert decode_image(save(tmp_path / "a.png", image)).tolist() == [[[10, 255]]] * 3


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 90, 80, 70])
    image.putpixel((1, 0), 1)
    assert decode_image(save(tmp_path / "a.png", image))[:, 0].tolist() == [[9, 90], [8, 80], [7, 70]]
    path = save(tmp_path / "b.png", image, transparency=1)
    assert decode_image(path)[:, 0].tolist() == [[9, 255], [8, 255], [7, 255]]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    path = save(tmp_path / f"a{suffix}", Image.fromarray(values))
    assert decode_image(path).tolist() == [[[0, 0, 1, 128, 255]]] * 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("highest", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14), (65535, 16)])
def test_deep_gray_is_scaled_from_the_bits_it_uses(tmp_path: Path, suffix: str, highest: int, bits: int) -> None:
    values = np.array([[0, highest // 2, highest]], dtype=np.uint16)
    path = save(tmp_path / f"a{suffix}", Image.fromarray(values))
    assert decode_image(path)[0].tolist() == [[0, 127, 255]]
    assert check_image(path).bits == bits
    assert decode_image(path, Decoding(bits=16))[0].tolist() == (values >> 8).tolist()


def test_eight_bits_in_a_file_of_32(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[0, 100, 255]], dtype=np.int32)))
    assert decode_image(path)[0].tolist() == [[0, 100, 255]]


def test_the_bits_stated_by_the_file_apply(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 160]], dtype=np.uint16))
    path = save(tmp_path / "a.tif", image, tiffinfo={281: 4095})
    assert decode_image(path)[0].tolist() == [[0, 10]]
    whole = save(tmp_path / "a.png", image).read_bytes()
    chunk, header = b"sBIT" + bytes([12]), 8 + 25
    stated = whole[:header] + b"\0\0\0\1" + chunk + zlib.crc32(chunk).to_bytes(4) + whole[header:]
    (tmp_path / "b.png").write_bytes(stated)
    assert decode_image(tmp_path / "b.png")[0].tolist() == [[0, 10]]


def test_values_beyond_the_bits_of_the_set_are_not_cut_off(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)))
    assert decode_image(path, Decoding(bits=12))[0].tolist() == [[0, 255]]


def test_limit_of_pixels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(0))
    assert decode_image(path, Decoding(max_pixels=64)).shape == (3, 8, 8)
    with pytest.raises(BadImage, match="it has 8 x 8 pixels, more than `max_pixels` allows"):
        decode_image(path, Decoding(max_pixels=63))


@pytest.mark.parametrize(
    ("image", "is_flat"),
    [(Image.new("RGB", (8, 8), (9, 99, 200)), True), (Image.new("L", (8, 8)), True), (noise(0), False)],
)
def test_flat_images(tmp_path: Path, image: Image.Image, is_flat: bool) -> None:
    assert check_image(save(tmp_path / "a.png", image)).is_flat is is_flat


def test_more_than_sixteen_bits_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[70000]], dtype=np.int32)))
    with pytest.raises(BadImage, match="more than 16 bits; save it with 8 or 16 bits"):
        decode_image(path)


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[0.5]], dtype=np.float32)))
    with pytest.raises(BadImage, match="floating-point numbers of unknown range"):
        decode_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow give red
    red, green, blue = decode_image(save(tmp_path / f"a{suffix}", ink))[:, 4, 4].tolist()
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(tmp_path: Path, suffix: str, orientation: int) -> None:
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 8, 8))  # a mark in one corner distinguishes all eight orientations
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a{suffix}", image, exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    found = as_array(decode_image(path)).astype(int)
    assert found.shape == ((16, 32, 3) if orientation <= 4 else (32, 16, 3))
    assert np.abs(found - expected).max() <= 2
    if orientation == 6:  # the camera was rotated: the stored top left is the real top right
        assert found[2, -3, 0] > 200 > 50 > found[2, 2, 0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_damaged_exif_does_not_cost_the_image(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", noise(1), exif=b"Exif\0\0MM\0\x2b\0\0\0\x08", **options)
    whole = save(tmp_path / f"b{suffix}", noise(1), **options)
    assert torch.equal(decode_image(path), decode_image(whole))
    check_image(path)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert decode_image(path)[:, 0, 0].tolist() == [255, 0, 0]


def with_sides(png: bytes, side: int) -> bytes:
    """Return the PNG with another size in its header and a valid checksum."""
    head = png[12:16] + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


def test_a_phone_picture_with_a_second_image_inside(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", noise(8, 16, 16), format="MPO", save_all=True, append_images=[noise(9, 16, 16)])
    expected = np.array(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(as_array(decode_image(path)), expected)


def damaged(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.png"
    whole = save(tmp_path / "whole.png", noise(4, 50, 50)).read_bytes()
    jpeg = save(tmp_path / "whole.jpg", noise(4, 50, 50)).read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"<html>404</html>",
            "truncated png": whole[: len(whole) // 2],
            "truncated jpeg": jpeg[: len(jpeg) // 2],
            "jpeg without its last byte": jpeg[:-1],
            "head only": whole[:20],
            "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "huge": with_sides(whole, 10**5),
        }[kind]
    )
    return path


REASONS = {
    "empty": "the file is empty",
    "text": "not an image in a supported format",
    "truncated png": "truncated",
    "truncated jpeg": "truncated",
    "jpeg without its last byte": "truncated",
    "head only": "Truncated|not an image in a supported format",
    "postscript": "not an image in a supported format",
    "huge": "exceeds the limit of Pillow; raise `max_pixels`",
}


@pytest.mark.parametrize("read", [decode_image, check_image])
@pytest.mark.parametrize(("kind", "reason"), REASONS.items())
def test_damaged_files_are_named_with_the_reason(tmp_path: Path, kind: str, reason: str, read) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(BadImage, match=reason) as caught:
        read(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert "`on_bad_image`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="No such file"):
        decode_image(tmp_path / "nowhere.png")
    with pytest.raises(BadImage, match="Is a directory"):
        decode_image(tmp_path)


def test_bad_image_survives_the_way_between_processes() -> None:
    bad = pickle.loads(pickle.dumps(BadImage(Path("a.png"), "the file is empty")))
    assert isinstance(bad, InputError)
    assert (bad.path, bad.reason) == (Path("a.png"), "the file is empty")


def test_check_passes_what_decode_reads(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.gif", "a.webp"):
        check_image(save(tmp_path / name, noise(5, 30, 20)))


def test_sides_come_from_the_head(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png", noise(6, 30, 20))
    assert image_shape(whole) == (20, 30)
    whole.write_bytes(whole.read_bytes()[:60])
    assert image_shape(whole) == (20, 30)
