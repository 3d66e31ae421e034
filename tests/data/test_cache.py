import logging
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.config.convert import from_mapping
from longtail.config.schema import DataConfig
from longtail.data import cache as module
from longtail.data.cache import USED, ImageCache, image_cache
from longtail.data.decode import PLAIN, BadImage
from longtail.data.load import load_data
from longtail.data.prepare import prepare_dataset
from longtail.data.stream import StreamedImages
from longtail.errors import InputError
from tests.data.helpers import noise, save

SIZE = 70
"""The shorter side of a copy is 80 pixels."""
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for index in range(4):
        save(root / "cat" / f"{index}.jpg", noise(index, 240, 200), quality=90)
        save(root / "dog" / f"{index}.png", noise(10 + index, 190, 180))
    save(root / "dog" / "small.png", noise(3, 60, 50))
    save(root / "dog" / "deep.png", Image.fromarray(np.full((200, 200), 900, dtype=np.uint16)))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def streamed(root: Path, folder: Path, workers: int = 0) -> StreamedImages:
    paths = sorted(root.glob("*/*"))
    return StreamedImages(paths, SIZE, workers=workers, cache=image_cache(str(folder), paths, SIZE, PLAIN))


def cache_of(root: Path, folder: Path) -> ImageCache:
    cache = streamed(root, folder).cache
    assert cache is not None
    return cache


def views(images: StreamedImages) -> list[torch.Tensor]:
    """Return the plain view and a random crop of each image."""
    order_SB = torch.arange(len(images))[None]
    uniforms_SBR = torch.rand(1, len(images), 4, generator=torch.Generator().manual_seed(0))
    return [*images.batches(order_SB, None), *images.batches(order_SB, uniforms_SBR)]


def copies(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*/*") if path.is_file())


def config_of(root: Path, **options: object) -> DataConfig:
    return DataConfig(name=str(root), storage="stream", image_size=SIZE, workers=0, test_per_class=1, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_those_of_a_prepared_folder(photos: Path, folder: Path, tmp_path: Path, workers: int) -> None:
    prepare_dataset(config_of(photos), SIZE, tmp_path / "small")
    expected = views(StreamedImages(sorted((tmp_path / "small").glob("*/*")), SIZE, workers=0))
    for _ in range(2):  # copies that are being written, and copies that were written
        assert all(map(torch.equal, views(streamed(photos, folder, workers)), expected))
    assert len(copies(folder)) == 10


def test_a_second_pass_reads_the_copies_alone(photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = views(streamed(photos, folder))
    written = {path: path.stat().st_mtime_ns for path in copies(folder)}
    images = streamed(photos, folder)
    images.cache.begin()
    monkeypatch.delattr(module, "read_reduced")
    assert all(map(torch.equal, views(images), expected))
    assert {path: path.stat().st_mtime_ns for path in copies(folder)} == written


def test_a_changed_original_and_a_damaged_copy_are_read_again(photos: Path, folder: Path) -> None:
    before = views(streamed(photos, folder))
    first, stale = copies(folder), cache_of(photos, folder)._place(photos / "cat" / "2.jpg")
    save(photos / "cat" / "2.jpg", noise(99, 210, 180))
    for index, path in enumerate(first):
        path.write_bytes(path.read_bytes()[:200] if index % 2 else b"")
    after = views(streamed(photos, folder))
    assert [index for index in range(10) if not torch.equal(before[0][index], after[0][index])] == [2]
    assert len(copies(folder)) == 11
    assert sum(path.stat().st_size == 0 for path in copies(folder)) == (first.index(stale) % 2 == 0)


def test_an_original_that_became_unreadable_is_named(photos: Path, folder: Path) -> None:
    images = streamed(photos, folder)
    views(images)
    broken, lost = photos / "cat" / "1.jpg", photos / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:500])
    lost.unlink()
    for path, reason in ((broken, "Truncated"), (lost, "No such file")):
        with pytest.raises(BadImage, match=reason) as caught:
            list(images.batches(torch.tensor([[images.paths.index(path)]]), None))
        assert caught.value.path == path


def test_only_large_images_have_copies(photos: Path, folder: Path) -> None:
    paths = sorted(photos.glob("cat/*"))
    assert image_cache("off", paths, SIZE, PLAIN) is None
    assert image_cache(str(folder), paths, 88, PLAIN) is None  # 200 pixels are not more than twice 101
    assert image_cache(str(folder), [], SIZE, PLAIN) is None
    assert image_cache(str(folder), paths, 87, PLAIN) is not None
    assert not folder.exists()  # before the first batch
    with pytest.raises(InputError, match="is inside of the data"):
        image_cache(str(photos / "cat" / "cache"), paths, SIZE, PLAIN)


def test_the_usual_folder(photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(photos.glob("*/*"))
    monkeypatch.setenv("LONGTAIL_CACHE", str(folder))
    cache = image_cache("auto", paths, SIZE, PLAIN)
    assert cache is not None
    assert cache.folder == folder / "images"
    monkeypatch.delenv("LONGTAIL_CACHE")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert module.usual_folder() == folder / ".cache" / "longtail" / "images"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_becomes_full_gives_one_warning_and_equal_views(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    expected = views(streamed(photos, folder))
    shutil.rmtree(folder)
    images = streamed(photos, folder, workers)
    cache = images.cache
    assert isinstance(cache, ImageCache)
    cache.begin()
    cache._floor = 1 << 62
    assert all(map(torch.equal, views(images), expected))
    assert copies(folder) == []
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "No more reduced copies" in warnings[0]


def test_a_folder_that_cannot_be_written_gives_one_warning_and_equal_views(
    photos: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = views(streamed(photos, folder))
    (tmp_path / "file").touch()
    assert all(map(torch.equal, views(streamed(photos, tmp_path / "file" / "cache")), expected))
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "are not stored in" in warnings[0]
    assert "Not a directory" in warnings[0]


def test_copies_never_take_more_than_half_of_the_free_space(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 100_000))
    views(streamed(photos, folder))
    assert copies(folder) == []
    assert "at most 0.1 MB may be used" in caplog.text


def test_data_sets_used_least_recently_make_room(photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views(streamed(photos, folder))
    (first,) = folder.glob("*/" + USED)
    size = sum(path.stat().st_size for path in copies(folder))
    other = shutil.copytree(photos, photos.parent / "other")
    monkeypatch.setattr(module, "LARGEST", 3 * size)
    views(streamed(other, folder))
    assert len(list(folder.glob("*/" + USED))) == 2
    os.utime(first)
    (foreign := folder / "mine").mkdir()
    third = shutil.copytree(photos, photos.parent / "third")
    monkeypatch.setattr(module, "LARGEST", int(2.5 * size))
    views(streamed(third, folder))
    assert first.exists()
    assert foreign.exists()
    assert len(list(folder.glob("*/" + USED))) == 2


def test_the_message_names_place_and_size(photos: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "longtail")
    images = streamed(photos, folder)
    views(images), views(images)
    (message,) = [each.getMessage() for each in caplog.records]
    assert str(folder) in message
    assert "for 10 images, of which 0.0 MB are stored" in message


def test_the_split_does_not_depend_on_the_cache(photos: Path, folder: Path) -> None:
    one, other = load_data(config_of(photos, cache="off")), load_data(config_of(photos, cache=str(folder)))
    assert one.split == other.split
    assert from_mapping(DataConfig, {"cache": False}).cache == "off"  # the word off in YAML
