import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
import torch
from PIL import Image

from longtail.config.schema import DataConfig
from longtail.data.load import load_data
from longtail.data.prepare import prepare_dataset
from longtail.errors import InputError
from tests.data.helpers import noise, save

SIZE = 70
"""The shorter side of a prepared image is 80 pixels."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for index in range(6):
        save(root / "cat" / f"{index}.jpg", noise(index, 200, 160), quality=90)
        save(root / "dog" / f"{index}.png", noise(10 + index, 100, 90))
    save(root / "dog" / "small.png", noise(3, 60, 50))
    save(root / "dog" / "deep.png", Image.fromarray(np.full((90, 90), 900, dtype=np.uint16)))
    return root


def config_of(place: Path, **options: object) -> DataConfig:
    given = {"storage": "stream", "image_size": SIZE, "workers": 0, "val_share": 0.2, "test_per_class": 1}
    return DataConfig(name=str(place), **{**given, **options})


def test_classes_and_splits_are_those_of_the_original(photos: Path, tmp_path: Path) -> None:
    done = prepare_dataset(config_of(photos), SIZE, tmp_path / "small")
    assert done.counts == {"reduced": 12, "copied": 2}
    before, after = load_data(config_of(photos)), load_data(config_of(tmp_path / "small"))
    assert after.class_names == before.class_names
    assert after.split.sha256 == before.split.sha256
    assert after.split.name == before.split.name
    assert torch.equal(after.test.targets, before.test.targets)


def test_images_are_reduced_to_the_plain_view_and_its_border(photos: Path, tmp_path: Path) -> None:
    prepare_dataset(config_of(photos), SIZE, tmp_path / "small")
    with Image.open(tmp_path / "small" / "cat" / "1.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (100, 80))
    with Image.open(tmp_path / "small" / "dog" / "1.png") as image:
        assert (image.format, image.size) == ("PNG", (88, 80))
    for name in ("small.png", "deep.png"):
        assert (tmp_path / "small" / "dog" / name).read_bytes() == (photos / "dog" / name).read_bytes()
    before, after = load_data(config_of(photos)), load_data(config_of(tmp_path / "small"))
    order = torch.arange(len(before.test))[None]
    (plain,), (again,) = before.test.images.batches(order, None), after.test.images.batches(order, None)
    assert (plain.int() - again.int()).abs().float().mean() < 12  # the JPEG file is noise; others are exact
    dogs = before.test.targets == 1
    assert (plain[dogs].int() - again[dogs].int()).abs().max() <= 1


@pytest.mark.parametrize(("form", "name"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_one_format_for_all(photos: Path, tmp_path: Path, form: str, name: str) -> None:
    prepare_dataset(config_of(photos), SIZE, tmp_path / "small", form=form)
    for path in ("cat/0.jpg", "dog/0.png"):
        with Image.open(tmp_path / "small" / path) as image:
            assert image.format == name


def test_a_second_call_writes_only_what_is_missing_or_changed(photos: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    prepare_dataset(config_of(photos), SIZE, small)
    (small / "cat" / "2.jpg").unlink()
    save(photos / "cat" / "3.jpg", noise(99, 210, 180))
    assert prepare_dataset(config_of(photos), SIZE, small).counts == {"kept": 12, "reduced": 2}
    with pytest.raises(InputError, match="was prepared with size=70"):
        prepare_dataset(config_of(photos), 96, small)


def test_unreadable_images_are_named_or_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "4.jpg").write_bytes(b"not an image")
    small = tmp_path / "small"
    with pytest.raises(InputError, match="1 of 14 images cannot be read"):
        prepare_dataset(config_of(photos), SIZE, small)
    with pytest.raises(InputError, match="was not prepared to the end"):
        load_data(config_of(small))
    done = prepare_dataset(replace(config_of(photos), on_bad_image="skip"), SIZE, small)
    assert [error.path.name for error in done.bad] == ["4.jpg"]
    assert "cat/4.jpg" not in [path for path, _ in json.loads((small / "prepared.json").read_text())["parts"]["train"]]


def test_refusals(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is inside of the data"):
        prepare_dataset(config_of(photos), SIZE, photos / "small")
    with pytest.raises(InputError, match="is not an empty folder"):
        prepare_dataset(config_of(photos), SIZE, tmp_path)
    with pytest.raises(InputError, match="got size=0 and quality=95"):
        prepare_dataset(config_of(photos), 0, tmp_path / "small")


def write_table(photos: Path) -> Path:
    names = sorted(path.relative_to(photos).as_posix() for path in photos.glob("*/*"))
    lines = ["path,label,split", *(f"{name},{name[:3]},{'test' if '3.' in name else 'train'}" for name in names)]
    (photos / "t.csv").write_text("\n".join(lines) + "\n")
    return photos / "t.csv"


def write_lists(photos: Path) -> Path:
    for part, numbers in (("train", "0124"), ("test", "35")):
        lines = [f"{name}/{number}.{end} {label}" for label, (name, end) in enumerate(KINDS) for number in numbers]
        (photos / f"mine_{part}.txt").write_text("\n".join(lines) + "\n")
    return photos


def write_parquet(photos: Path) -> Path:
    paths = sorted(photos.glob("*/?.*"))
    images = [path.read_bytes() for path in paths]
    table = pa.table({"image": images, "label": [path.parent.name for path in paths]})
    pa_parquet.write_table(table, photos / "t.parquet")
    return photos / "t.parquet"


KINDS = (("cat", "jpg"), ("dog", "png"))


@pytest.mark.parametrize("write", [write_table, write_lists, write_parquet])
def test_tables_lists_and_packed_images(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path]
) -> None:
    monkeypatch.setenv("LONGTAIL_CACHE", str(tmp_path / "cache"))
    options = {"val_share": 0.0, "test_per_class": 1 if write is write_parquet else None}
    place = write(photos)
    prepare_dataset(config_of(place, **options), SIZE, tmp_path / "small")
    before, after = load_data(config_of(place, **options)), load_data(config_of(tmp_path / "small", **options))
    assert after.class_names == before.class_names
    assert after.split == before.split
    assert torch.equal(after.train.targets, before.train.targets)
    assert torch.equal(after.test.targets, before.test.targets)
    order = torch.arange(len(before.test))[None]
    (plain,), (again,) = before.test.images.batches(order, None), after.test.images.batches(order, None)
    dogs = before.test.targets == 1
    assert (plain[dogs].int() - again[dogs].int()).abs().max() <= 1
