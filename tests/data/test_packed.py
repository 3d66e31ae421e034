"""Images inside of Parquet tables."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
import torch

from longtail.config.schema import DataConfig
from longtail.data.files import find_images
from longtail.data.load import load_data
from longtail.data.packed import packed_paths, read_bytes
from longtail.errors import InputError
from tests.data.helpers import noise


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGTAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(seed: int) -> bytes:
    content = io.BytesIO()
    noise(seed).save(content, "PNG")
    return content.getvalue()


def write_hub(path: Path, seeds: range, label_names: tuple[str, ...] = ("dog", "cat")) -> Path:
    """Write a table as Hugging Face data sets do. Every third image has label 1."""
    images = pa.array([{"bytes": png(seed), "path": f"{seed}.png"} for seed in seeds])
    table = pa.table({"image": images, "label": [int(seed % 3 == 0) for seed in seeds]})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": label_names}}
    about = json.dumps({"info": {"features": features}})
    path.parent.mkdir(parents=True, exist_ok=True)
    pa_parquet.write_table(table.replace_schema_metadata({"huggingface": about}), path, row_group_size=7)
    return path


def pixels(data, part: str) -> torch.Tensor:
    images = getattr(data, part).images
    return next(images.batches(torch.arange(len(images)).view(1, -1), None))


@pytest.mark.parametrize("workers", [0, 2])
def test_resident_and_streamed_images_are_equal(tmp_path: Path, workers: int) -> None:
    table = write_hub(tmp_path / "hub.parquet", range(30))
    config = {"name": str(table), "image_size": 8, "workers": workers}
    resident = load_data(DataConfig(**config, storage="resident"))
    streamed = load_data(DataConfig(**config, storage="stream"))
    assert resident.class_names == ("dog", "cat")  # the order of the labels in the file
    assert resident.group_counts.counts.tolist() == [18, 8]
    assert resident.split == streamed.split
    for part in ("train", "test"):
        assert torch.equal(pixels(resident, part), pixels(streamed, part))


def test_binary_column_and_other_names(tmp_path: Path) -> None:
    table = pa.table({"foto": [png(seed) for seed in range(6)], "kind": ["a", "b"] * 3, "mask": [b"x"] * 6})
    pa_parquet.write_table(table, tmp_path / "plain.parquet")
    config = DataConfig(name=str(tmp_path / "plain.parquet"), label_column="kind", path_column="Foto")
    assert load_data(config).group_counts.counts.tolist() == [2, 2]
    assert len(find_images([tmp_path / "plain.parquet"], path_column="foto")) == 6
    with pytest.raises(InputError, match="no column 'other' with the bytes of images, only: foto, mask"):
        find_images([tmp_path / "plain.parquet"], path_column="other")


def test_folder_of_tables(tmp_path: Path) -> None:
    write_hub(tmp_path / "hub/data/train-00000-of-00002.parquet", range(10))
    write_hub(tmp_path / "hub/data/train-00001-of-00002.parquet", range(10, 20))
    write_hub(tmp_path / "hub/data/validation-00000-of-00001.parquet", range(20, 23))
    write_hub(tmp_path / "hub/data/test-00000-of-00001.parquet", range(30, 36))
    data = load_data(DataConfig(name=str(tmp_path / "hub")))
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (20, 3, 6)
    assert len(find_images([tmp_path / "hub"])) == 29


def test_content_is_read_by_row_and_kept_in_the_cache(tmp_path: Path, cache: Path) -> None:
    rows = [{"bytes": b"first", "path": None}, None, {"bytes": None, "path": "x.png"}, {"bytes": b"l\0st", "path": ""}]
    pa_parquet.write_table(pa.table({"a/b": rows}), tmp_path / "t.parquet")
    paths = packed_paths(tmp_path / "t.parquet", "a/b")
    assert [read_bytes(path) for path in paths] == [b"first", b"", b"", b"l\0st"]
    assert [path.relative_to(tmp_path).as_posix() for path in paths][1] == "t.parquet/a%2Fb/1"
    assert len(list(cache.iterdir())) == 1


def test_rows_without_an_image_are_unreadable_images(tmp_path: Path) -> None:
    table = pa.table({"image": [None, *(png(seed) for seed in range(7))], "label": ["a", "b"] * 4})
    pa_parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"cannot read the image .*t.parquet/image/0: the file is empty"):
        load_data(DataConfig(name=str(tmp_path / "t.parquet")))
    data = load_data(DataConfig(name=str(tmp_path / "t.parquet"), on_bad_image="skip"))
    assert [each.path for each in data.load_report.unreadable] == ["t.parquet/image/0"]


def test_names_without_images_are_empty_classes(tmp_path: Path) -> None:
    table = write_hub(tmp_path / "hub.parquet", range(12), ("dog", "cat", "owl"))
    with pytest.raises(InputError, match=r"1 of 3 classes .* have no training image; .*`empty_classes`.*\n  owl"):
        load_data(DataConfig(name=str(table)))
    assert load_data(DataConfig(name=str(table), empty_classes="drop")).class_names == ("dog", "cat")


def test_folder_named_as_a_table_is_a_folder(tmp_path: Path) -> None:
    image = tmp_path / "x.parquet" / "cat" / "1"
    image.parent.mkdir(parents=True)
    image.write_bytes(png(1))
    assert read_bytes(image) == png(1)
