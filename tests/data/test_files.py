from pathlib import Path

import pytest
import torch
from PIL import Image

from longtail.data import files
from longtail.data.decode import BadImage, Decoding, decode_image
from longtail.data.files import check_all, data_root, decode_all, find_images, natural_size
from longtail.data.views import fit_image
from longtail.errors import InputError
from tests.data.helpers import noise, save


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [save(tmp_path / f"{k}.png", noise(k, 8 + k % 2, 8)) for k in range(7)]


def test_decode_all_keeps_the_order(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 3)
    progress: list[tuple[int, int]] = []
    seen = decode_all(paths, 8, "fail", lambda done, of: progress.append((done, of)))
    assert torch.equal(seen.pixels, torch.stack([fit_image(decode_image(path), 8) for path in paths]))
    assert seen.readable.tolist() == list(range(7))
    assert seen.resized == 3
    assert progress == [(3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize("look", [lambda *args: decode_all(args[0], 8, *args[1:]), check_all])
def test_bad_images_stop_or_are_left_out(paths: list[Path], look) -> None:
    paths[4].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:-30])
    with pytest.raises(InputError, match=r"2 of 7 images cannot be read; .*\n  .*2.png: .*\n  .*4.png: the file is"):
        look(paths, "fail")
    seen = look(paths, "skip")
    assert seen.readable.tolist() == [0, 1, 3, 5, 6]
    assert [bad.path for bad in seen.bad] == [paths[2], paths[4]]


def test_checking_keeps_no_pixels(paths: list[Path]) -> None:
    assert check_all(paths, "fail").pixels is None


def sized(tmp_path: Path, *sides: tuple[int, int]) -> list[Path]:
    return [save(tmp_path / f"{k}.png", noise(k, *side)) for k, side in enumerate(sides)]


@pytest.mark.parametrize(
    ("sides", "size"),
    [
        ([(32, 32), (32, 32), (28, 28)], 32),
        ([(28, 28), (32, 40), (40, 32), (64, 64)], 32),
        ([(28, 28), (32, 32)], 32),
        ([(28, 28), (28, 65)], 224),
        ([(500, 375)], 224),
    ],
)
def test_natural_size(tmp_path: Path, sides: list[tuple[int, int]], size: int) -> None:
    assert natural_size(sized(tmp_path, *sides)) == size


def test_natural_size_looks_at_a_spread_of_64_and_past_bad_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def sides(path: Path, how: Decoding) -> tuple[int, int]:
        asked.append(path)
        return 8, 8

    monkeypatch.setattr(files, "image_shape", sides)
    many = [Path(str(k)) for k in range(1000)]
    assert natural_size(many) == 8
    assert len(set(asked)) == 64
    assert {many[0], many[-1]} <= set(asked)
    monkeypatch.undo()
    paths = sized(tmp_path, (8, 8), (9, 9))
    paths[0].write_bytes(b"")
    assert natural_size(paths) == 9
    paths[1].write_bytes(b"")
    with pytest.raises(InputError, match="2 of 2 images cannot be read"):
        natural_size(paths)


def test_data_root_order(monkeypatch, tmp_path):
    monkeypatch.setenv("LONGTAIL_DATA", str(tmp_path))
    assert data_root("elsewhere") == Path("elsewhere")
    assert data_root() == tmp_path
    monkeypatch.delenv("LONGTAIL_DATA")
    assert data_root() == Path.home() / ".cache" / "longtail"
    assert data_root("~/data") == Path.home() / "data"


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
        (lambda folder: folder / "none.png", "1 of 1 files or folders do not exist"),
        (lambda folder: folder, "no image in"),
    ],
)
def test_places_without_images_are_refused(tmp_path, make, words):
    with pytest.raises(InputError, match=words):
        find_images([make(tmp_path)])


def test_all_unreadable_images_are_named(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{k:02}.png", noise(k)) for k in range(14)]
    paths[3].write_bytes(b"")
    with pytest.raises(BadImage, match="the file is empty"):
        check_all(paths, "fail")
    for path in paths:
        path.write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"14 of 14 images cannot be read; .*(\n.*){9}\n.*09.png.*\n.* 4 more"
    ) as caught:
        check_all(paths, "fail")
    everything = Path(str(caught.value).rpartition("all of them: ")[2])
    assert len(everything.read_text().splitlines()) == 14
    everything.unlink()
