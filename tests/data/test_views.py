import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from longtail.data.decode import BadImage, Decoding, decode_image, read_view
from longtail.data.views import PADDING, crop_box, cut_share, fit_image, plain_box, random_resized_crop
from tests.data.helpers import noise, save
from tests.data.test_decode import as_array

CROPS = (None, [0.0, 0.2, 0.9, 0.1], [0.4, 0.9, 0.3, 0.7], [0.999, 0.5, 0.999, 0.999])


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A photograph of 1281 x 855 pixels: no multiple of the scales of a JPEG decoder."""
    return Image.fromarray(load_sample_images().images[0]).resize((1281, 855), Image.Resampling.BICUBIC)


def full_view(path: Path, size: int, crop: list[float] | None) -> np.ndarray:
    pixels = decode_image(path)
    return as_array(fit_image(pixels, size) if crop is None else random_resized_crop(pixels, torch.tensor(crop), size))


def decoded_sides(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record the sizes at which images are decoded."""
    sides = []
    load = ImageFile.ImageFile.load

    def recorded(self):
        sides.append(self.size)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", recorded)
    return sides


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [48, 64, 96])
@pytest.mark.parametrize("form", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_large_jpeg_gives_nearly_the_view_of_the_full_decode(
    tmp_path: Path, photo: Image.Image, size: int, crop: list[float] | None, form: dict
) -> None:
    path = save(tmp_path / "a.jpg", photo, quality=90, **form)
    view = as_array(read_view(path, size, uniforms_R=crop))
    difference = np.abs(view.astype(int) - full_view(path, size, crop).astype(int))
    assert view.shape == (size, size, 3)
    assert difference.mean() < 1
    assert np.percentile(difference, 99) <= 6


SCALES = [(48, (161, 107)), (80, (321, 214)), (150, (641, 428)), (250, (1281, 855))]


@pytest.mark.parametrize(("size", "decoded"), SCALES)
def test_the_scale_keeps_more_pixels_than_the_view_has(
    tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch, size: int, decoded: tuple[int, int]
) -> None:
    path = save(tmp_path / "a.jpg", photo)
    sides = decoded_sides(monkeypatch)
    read_view(path, size)
    assert sides[0] == decoded


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_turned_before_it_is_cropped(tmp_path: Path, photo: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", photo, exif=exif)
    for crop in CROPS:
        view = as_array(read_view(path, 64, uniforms_R=crop)).astype(int)
        assert np.abs(view - full_view(path, 64, crop)).mean() < 2  # 3 to 5 if it is off by half a pixel


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_large_jpegs_of_other_modes(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    path = save(tmp_path / "a.jpg", photo.convert(mode))
    view = as_array(read_view(path, 64)).astype(int)
    assert np.abs(view - full_view(path, 64, None)).mean() < 1


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_other_images_give_exactly_the_view_of_the_full_decode(
    tmp_path: Path, name: str, crop: list[float] | None
) -> None:
    path = save(tmp_path / name, noise(1, 90, 70))
    assert np.array_equal(as_array(read_view(path, 48, uniforms_R=crop)), full_view(path, 48, crop))


def test_a_view_of_a_damaged_jpeg_is_refused(tmp_path: Path, photo: Image.Image) -> None:
    path = save(tmp_path / "a.jpg", photo)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(BadImage, match="truncated"):
        read_view(path, 64)


@pytest.mark.parametrize(("height", "width"), [(300, 500), (857, 1283), (70, 900), (1, 400), (224, 224)])
def test_the_plain_box_lies_inside_at_the_center(height: int, width: int) -> None:
    top, left, rows, columns = plain_box(height, width, 224)
    assert -1e-6 <= top <= top + rows <= height + 1e-6
    assert -1e-6 <= left <= left + columns <= width + 1e-6
    assert rows == pytest.approx(min(height, width) * 224 / 256, rel=0.01)
    assert abs(2 * left + columns - width) <= 1.01 * width / (256 * width / min(height, width))


def test_fit_leaves_an_image_of_the_right_size_alone() -> None:
    for side in (8, 224):
        pixels = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
        assert torch.equal(fit_image(pixels, side), pixels)


@pytest.mark.parametrize(("height", "width"), [(300, 500), (500, 300), (256, 256), (90, 120)])
@pytest.mark.parametrize("size", [224, 96])
def test_fit_is_the_usual_resize_and_centre_crop(height: int, width: int, size: int) -> None:
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    usual = v2.Compose([v2.Resize(int(size * 256 / 224 + 0.5)), v2.CenterCrop(size)])
    assert torch.equal(fit_image(pixels, size), usual(pixels))


def test_fit_of_small_sizes_keeps_the_shorter_side_whole() -> None:
    pixels = torch.zeros(3, 32, 64, dtype=torch.uint8)
    pixels[:, 0], pixels[:, -1] = 255, 255
    view = fit_image(pixels, 32)
    assert torch.equal(view, pixels[:, :, 16:48])


def test_fit_is_antialiased_as_pillow_is() -> None:
    image = noise(7, 96, 96)
    expected = np.array(image.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    view = as_array(fit_image(torch.from_numpy(np.array(image)).permute(2, 0, 1), 32))
    assert np.abs(view.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (3, 7)])
def test_fit_of_extreme_shapes(shape: tuple[int, int]) -> None:
    assert fit_image(torch.full((3, *shape), 9, dtype=torch.uint8), 224).unique().tolist() == [9]


def test_crop_boxes_lie_inside_and_keep_their_range() -> None:
    generator = torch.Generator().manual_seed(0)
    for height, width in ((100, 100), (60, 200), (500, 375)):
        boxes = [crop_box(height, width, row) for row in torch.rand(400, 4, generator=generator).tolist()]
        for top, left, rows, columns in boxes:
            assert 0 <= top <= top + rows <= height
            assert 0 <= left <= left + columns <= width
            assert 0.72 < columns / rows < 1.39  # 3/4 to 4/3 up to rounding
            assert rows * columns > 0.07 * height * width


def test_crop_box_follows_its_four_numbers() -> None:
    def area(u: float) -> float:
        _, _, rows, columns = crop_box(1000, 1000, [u, 0.5, 0, 0])
        return rows * columns / 1e6

    assert area(0.0) == pytest.approx(0.08, abs=1e-3)
    assert area(0.5) == pytest.approx(0.54, abs=1e-3)
    _, _, rows, columns = crop_box(1000, 1000, [0.2, 0.0, 0, 0])
    assert columns / rows == pytest.approx(3 / 4, abs=2e-3)
    _, _, rows, columns = crop_box(1000, 1000, [0.2, math.nextafter(1, 0), 0, 0])
    assert columns / rows == pytest.approx(4 / 3, abs=4e-3)
    assert crop_box(1000, 1000, [0.2, 0.5, 0, 0])[:2] == (0, 0)
    top, left, rows, columns = crop_box(1000, 1000, [0.2, 0.5, math.nextafter(1, 0), math.nextafter(1, 0)])
    assert (top + rows, left + columns) == (1000, 1000)


def test_a_crop_that_does_not_fit_is_shrunk_to_the_border() -> None:
    top, left, rows, columns = crop_box(50, 200, [0.99, 0.5, 0.7, 0.0])
    assert (top, left, rows, columns) == (0, 0, 50, 50)


def test_random_crop_resizes_the_box() -> None:
    pixels = torch.randint(0, 256, (3, 120, 90), dtype=torch.uint8)
    uniforms = torch.tensor([0.3, 0.6, 0.2, 0.9, 0.123])
    top, left, rows, columns = crop_box(120, 90, uniforms[:4].tolist())
    expected = v2.functional.resized_crop(pixels, top, left, rows, columns, [32, 32], antialias=True)
    assert torch.equal(random_resized_crop(pixels, uniforms, 32), expected)


def halves(height: int, width: int) -> torch.Tensor:
    """An image whose outer quarters, left and right, are white."""
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels[:, :, : width // 4] = 255
    pixels[:, :, -width // 4 :] = 255
    return pixels


def test_a_squashed_view_shows_what_the_crop_leaves_out() -> None:
    wide = halves(40, 160)
    assert fit_image(wide, 32).max() == 0
    squashed = fit_image(wide, 32, "squash")
    assert squashed[:, :, :7].min() == 255
    assert squashed[:, :, 9:23].max() == 0
    assert squashed[:, :, 25:].min() == 255


def test_a_padded_view_keeps_the_aspect_ratio() -> None:
    padded = fit_image(torch.full((3, 50, 100), 200, dtype=torch.uint8), 32, "pad")
    assert padded[:, 8:24].unique().tolist() == [200]
    assert padded[:, [0, 7, 24, 31], 5].unique(dim=1).flatten().tolist() == list(PADDING)


@pytest.mark.parametrize("resize", ["squash", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (48, 48), (2, 5)])
def test_odd_shapes_give_whole_views(resize: str, shape: tuple[int, int]) -> None:
    for crop in CROPS:
        pixels = torch.full((3, *shape), 9, dtype=torch.uint8)
        if crop is None:
            view = fit_image(pixels, 48, resize)
        else:
            view = random_resized_crop(pixels, torch.tensor(crop), 48, resize)
        assert view.shape == (3, 48, 48)
        assert 9 in view


def test_squashed_crops_have_the_distortion_of_the_plain_view() -> None:
    for row in torch.rand(100, 4, generator=torch.Generator().manual_seed(0)).tolist():
        _, _, rows, columns = crop_box(1000, 3000, row, "squash")
        assert rows <= 1000
        assert columns <= 3000
        assert 3 / 4 - 0.01 <= columns / rows / 3 <= 4 / 3 + 0.01 or rows == 1000 or columns == 3000
        _, _, square_rows, square_columns = crop_box(1000, 1000, row)
        assert abs(rows - square_rows) <= 1
        assert abs(columns - 3 * square_columns) <= 3


def test_padded_crops_hold_as_much_of_the_image_as_they_can() -> None:
    for row in torch.rand(100, 4, generator=torch.Generator().manual_seed(0)).tolist():
        top, left, rows, columns = crop_box(100, 400, row, "pad")
        assert max(rows, columns) <= 400
        assert (top <= 0 and top + rows >= 100) if rows >= 100 else (top >= 0 and top + rows <= 100)
        assert left >= 0
        assert left + columns <= 400


@pytest.mark.parametrize("resize", ["squash", "pad"])
@pytest.mark.parametrize("crop", CROPS)
def test_views_of_files_are_those_of_their_pixels(
    tmp_path: Path, photo: Image.Image, resize: str, crop: list[float] | None
) -> None:
    crop = None if crop is None else torch.tensor(crop).tolist()  # float32, as in a batch
    for name, tolerance in (("a.png", 0), ("a.jpg", 3)):
        path = save(tmp_path / name, photo.resize((640, 250)))
        pixels = decode_image(path)
        whole = (
            fit_image(pixels, 48, resize)
            if crop is None
            else random_resized_crop(pixels, torch.tensor(crop), 48, resize)
        )
        view = read_view(path, 48, Decoding(resize=resize), crop)
        assert (view.float() - whole.float()).abs().mean() <= tolerance


def test_cut_share_counts_the_border_of_large_images() -> None:
    assert cut_share(500, 500, 64) == 0
    assert round(cut_share(500, 500, 224), 3) == 0.234
    assert cut_share(32, 64, 32) == 0.5
