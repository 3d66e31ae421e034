"""Names and paths lead to the right reader."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from longtail.config.recipes import names
from longtail.config.schema import DataConfig
from longtail.data.load import NAMES, load_data
from longtail.data.loose import bad_images, find_images
from longtail.errors import InputError

CPU = torch.device("cpu")


def test_every_data_recipe_is_a_name_that_can_be_loaded():
    assert set(names("data")) <= set(NAMES)


def test_digits_are_digits():
    digits = load_data(DataConfig(val_share=0.1), CPU)
    assert digits.class_counts.counts.tolist() == [112, 79, 57, 41, 29, 21, 14, 11, 7, 5]
    assert torch.bincount(digits.test.targets).tolist() == [50] * 10
    assert digits.val is not None
    assert len(digits.val) + len(digits.train) == 417


def test_digits_share_no_image_between_parts():
    digits = load_data(DataConfig(val_share=0.1), CPU)
    whole = torch.cat([part.images.pixels for part in (digits.train, digits.val, digits.test)])
    from sklearn.datasets import load_digits

    distinct = len({image.tobytes() for image in load_digits().images})
    assert distinct == 1797  # no two digits are equal, so equal pixels would be one image twice
    assert len({image.numpy().tobytes() for image in whole}) == len(whole)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digit-lt", "did you mean digits-lt"),
        ("nowhere/at/all", "give one of digits-lt"),
    ],
)
def test_what_is_neither_name_nor_path_is_refused(name, words):
    with pytest.raises(InputError, match=words):
        load_data(DataConfig(name=name), CPU)


def test_loose_images_are_found_in_files_and_folders(tmp_path: Path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.png", "a.png", "deep/er/c.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image either")
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a.png", "b.png", "deep/er/c.jpg"]
    assert find_images([tmp_path / "b.png"]) == [tmp_path / "b.png"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none.png", "1 of the places do not exist"),
        (lambda folder: folder, "no image in"),
    ],
)
def test_loose_images_that_are_none_are_refused(tmp_path, make, words):
    with pytest.raises(InputError, match=words):
        find_images([make(tmp_path)])


def test_loose_images_that_cannot_be_read_are_told_with_the_reason(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "x.png").write_bytes(b"not an image")
    (tmp_path / "y.png").write_bytes(b"")
    bad = bad_images(find_images([tmp_path]))
    assert list(bad) == [tmp_path / "x.png", tmp_path / "y.png"]
    assert bad[tmp_path / "y.png"] == "the file is empty"


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"val_share": 1.5}, "--val-share must be"), ({"imbalance_factor": 0.5}, "--imbalance-factor must be at least 1")],
)
def test_settings_out_of_range_are_refused_for_digits_too(settings, words):
    with pytest.raises(InputError, match=words):
        load_data(DataConfig(**settings), CPU)
