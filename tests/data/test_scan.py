import logging
from pathlib import Path

import pytest

from longtail.data import decode
from longtail.data.files import find_images
from longtail.data.formats.folder import read_folder
from longtail.data.scan import PassedOver, Selection, is_hidden, is_image, walk
from longtail.errors import InputError
from tests.data.helpers import make_classes, noise, save

HIDDEN = [".thumbnails", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN", ".Trashes"]


def found(root: Path, **options: object) -> list[str]:
    return list(walk(root, "", Selection(**options), PassedOver()))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HIDDEN)
def test_training_and_prediction_leave_out_the_same_folders(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_classes(tmp_path, {"ant": 2, "bee": 2, f"ant/{name}": 1, name: 1})
    listing = read_folder(root)
    assert listing.class_names == ("ant", "bee")
    with caplog.at_level(logging.WARNING, "longtail"):
        images = find_images([root])
    assert [str(path.relative_to(root)) for path in images] == list(listing.parts["train"].paths)
    assert [*listing.notes, *caplog.messages] == [f"Hidden and system folders were left out: {name}, ant/{name}."] * 2


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "._1.jpg", "Icon\r"])
def test_system_files(name: str) -> None:
    assert is_hidden(name)


def test_files_of_other_kinds_are_counted_by_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_classes(tmp_path, {"ant": 2, "bee": 2})
    for name in ("ant/1.jxl", "ant/2.jxl", "ant/3.JXL", "bee/IMG.PSD", "bee/LICENSE"):
        (root / name).write_bytes(b"x")
    note = (
        "5 files that are not in a supported image format (such as BMP, GIF, JPEG, PNG) were left out: .jxl 3, "
        ".psd 1, no suffix 1."
    )
    assert read_folder(root).notes == (note,)
    with caplog.at_level(logging.WARNING, "longtail"):
        assert len(find_images([root])) == 4
    assert caplog.messages == [note]


@pytest.mark.skipif("HEIF" in decode.FORMATS, reason="the extra `heif` is installed")
def test_heif_images_point_to_the_extra(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"ant": 2, "bee": 2})
    (root / "ant/IMG.HEIC").write_bytes(b"x")
    assert "Install the extra `heif`" in read_folder(root).notes[0]


@pytest.mark.skipif("AVIF" not in decode.FORMATS, reason="Pillow cannot read AVIF")
def test_avif_images_are_read(tmp_path: Path) -> None:
    assert decode.decode_image(save(tmp_path / "a.avif", noise(0))).shape == (3, 8, 8)
    assert is_image("a.AVIF")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_images_without_a_suffix_are_known_by_content(tmp_path: Path, kind: str) -> None:
    noise(0).save(tmp_path / "image", format=kind)
    assert found(tmp_path) == ["image"]


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({}, ["ant/1.png", "ant/1_mask.png", "ant/masks/1.png", "bee/1.jpg"]),
        ({"exclude": ("*_mask.png", "masks")}, ["ant/1.png", "bee/1.jpg"]),
        ({"exclude": ("ant/masks",)}, ["ant/1.png", "ant/1_mask.png", "bee/1.jpg"]),
        ({"include": ("*.jpg",)}, ["bee/1.jpg"]),
        ({"include": ("ant",), "exclude": ("masks",)}, ["ant/1.png", "ant/1_mask.png"]),
    ],
)
def test_include_and_exclude(tmp_path: Path, options: dict[str, object], paths: list[str]) -> None:
    for name in ("ant/1.png", "ant/1_mask.png", "ant/masks/1.png", "bee/1.jpg"):
        save(tmp_path / name, noise(0))
    assert found(tmp_path, **options) == paths


def test_masks_next_to_photographs_are_noted(tmp_path: Path) -> None:
    for name in ("ant/1.jpg", "ant/1.png", "ant/2.jpg", "ant/2_mask.png", "bee/3.jpg"):
        save(tmp_path / name, noise(0))
    assert read_folder(tmp_path).notes == (
        "2 images have the name of another image next to them; if they are masks or copies, leave them out with "
        "`exclude`: ant/1.png, ant/2_mask.png.",
    )


def test_a_class_whose_images_are_all_excluded_is_left_out(tmp_path: Path) -> None:
    make_classes(tmp_path, {"ant": 2, "bee": 2, "masks": 3})
    listing = read_folder(tmp_path, Selection(exclude=("masks",)))
    assert listing.class_names == ("ant", "bee")
    assert listing.notes == ("3 images were left out by `include` and `exclude`.",)


def test_links_within_the_root_are_followed(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"ant": 1, "bee": 1})
    (root / "wasp").symlink_to(root / "bee")
    assert found(root) == ["ant/000.png", "bee/000.png", "wasp/000.png"]


def test_links_out_of_the_root_need_follow_links(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_classes(tmp_path / "store", {"ant": 2, "bee": 1})
    root = make_classes(tmp_path / "data", {"cat": 1})
    for name in ("ant", "bee"):
        (root / name).symlink_to(store / name)
    (root / "cat/link.png").symlink_to(store / "ant/000.png")
    with pytest.raises(InputError, match=r"3 paths lead out .* set `follow_links` to follow symbolic links") as caught:
        read_folder(root)
    assert "`root`" not in str(caught.value)
    assert len(read_folder(root, Selection(follow_links=True)).parts["train"]) == 5
    with caplog.at_level(logging.WARNING, "longtail"):
        assert len(find_images([root])) == 1
    assert "set `follow_links` to follow them: ant, bee, cat/link.png" in caplog.messages[0]
    assert len(find_images([root], Selection(follow_links=True))) == 5


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"ant": 1, "bee": 1})
    (root / "ant/other").symlink_to(root / "bee")
    (root / "bee/other").symlink_to(root / "ant")
    with pytest.raises(InputError, match="a symbolic link to a folder that contains it"):
        found(root)


def test_folder_one_level_too_high(tmp_path: Path) -> None:
    make_classes(tmp_path / "photos", {"ant": 1, "bee": 1})
    with pytest.raises(InputError, match=r"single folder 'photos', which holds 2 folders \(ant, bee\); give .*photos'"):
        read_folder(tmp_path)


def test_folder_with_a_table_and_no_class_folders(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label")
    with pytest.raises(InputError, match=r"or give the table '.*labels.csv'"):
        read_folder(tmp_path)


def test_class_folders_of_one_name_in_two_unicode_forms_are_merged(tmp_path: Path) -> None:
    listing = read_folder(make_classes(tmp_path, {"B\u00e4r": 2, "Ba\u0308r": 1, "owl": 1}))
    assert listing.class_names == ("B\u00e4r", "owl")
    assert listing.parts["train"].targets.tolist() == [0, 0, 0, 1]
    assert listing.notes == ("Folders whose names differ only in the Unicode form were merged: B\u00e4r.",)


@pytest.mark.timeout(20)
def test_many_places_take_linear_time(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", noise(0))
    assert len(find_images([image] * 20_000)) == 20_000
