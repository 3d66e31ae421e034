"""CIFAR-10 and CIFAR-100 as their author hands them out: what the files are called, and where they lie.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtail.errors import InputError, unknown_name


@dataclass(frozen=True)
class Layout:
    """One of the two ways the files come: "binary" or "python".

    Args:
        kind: which.
        folder: that the archive unpacks to.
        archive: its file name.
        files: the training files in their order, then the test file.
    """

    kind: str
    folder: str
    archive: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Cifar:
    """What is known of a data set beforehand.

    Args:
        name: as in `longtail data get`.
        title: as people write it.
        names: class names by the text file that holds them in the binary layout; the first are the classes learnt.
        label_keys: of the Python layout, in the order of the binary label bytes; the last is the class learnt.
        layouts: binary, then Python.
        digests: of each file of the binary layout, "algorithm:hex". CIFAR-10's are MD5: no stronger ones are known.
        train_images: over all training files.
        test_images: in the test file.
    """

    name: str
    title: str
    names: Mapping[str, tuple[str, ...]]
    label_keys: tuple[str, ...]
    layouts: tuple[Layout, Layout]
    digests: tuple[str, ...]
    train_images: int = 50_000
    test_images: int = 10_000

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return next(iter(self.names.values()))

    @property
    def record_bytes(self) -> int:
        """Of one image in the binary layout: its labels, then 3072 bytes of pixels."""
        return len(self.label_keys) + 3 * 32 * 32

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images in each file, training files first."""
        parts = len(self.digests) - 1
        return (self.train_images // parts,) * parts + (self.test_images,)


_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")

_TEN = "airplane automobile bird cat deer dog frog horse ship truck"

CIFAR10 = Cifar(
    name="cifar10",
    title="CIFAR-10",
    names={"batches.meta.txt": tuple(_TEN.split())},
    label_keys=("labels",),
    layouts=(
        Layout("binary", "cifar-10-batches-bin", "cifar-10-binary.tar.gz", tuple(f"{b}.bin" for b in _BATCHES)),
        Layout("python", "cifar-10-batches-py", "cifar-10-python.tar.gz", _BATCHES),
    ),
    digests=(
        "md5:5dd7e06a14cb22eb9f671a540d1b7c25",
        "md5:5ea93a67294ea407fff1d09f752e9692",
        "md5:942cd6a4bcdd0dd3c604fbe906cb4421",
        "md5:ae636b3ba5c66a11e91e8cb52e771fcb",
        "md5:53f37980c15c3d472c316c40844f3f0d",
        "md5:803d5f7f4d78ea53de84dbe85f74fb6d",
    ),
)

_FINE = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
tulip turtle wardrobe whale willow_tree wolf woman worm"""

_COARSE = """aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
vehicles_1 vehicles_2"""

CIFAR100 = Cifar(
    name="cifar100",
    title="CIFAR-100",
    names={"fine_label_names.txt": tuple(_FINE.split()), "coarse_label_names.txt": tuple(_COARSE.split())},
    label_keys=("coarse_labels", "fine_labels"),
    layouts=(
        Layout("binary", "cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin", "test.bin")),
        Layout("python", "cifar-100-python", "cifar-100-python.tar.gz", ("train", "test")),
    ),
    digests=(
        "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    ),
)

CIFARS = {cifar.name: cifar for cifar in (CIFAR10, CIFAR100)}


@dataclass(frozen=True)
class CifarFiles:
    """Where a data set was found.

    Args:
        cifar: which of the two.
        layout: of the files.
        path: the folder that holds the files, or the archive.
    """

    cifar: Cifar
    layout: Layout
    path: Path

    @property
    def complete(self) -> bool:
        """Whether all files are there; of an archive, reading will tell."""
        return self.path.is_file() or all((self.path / name).is_file() for name in self.layout.files)

    def where(self, name: str) -> str:
        """One of the files, for a message."""
        return f"{name} in {self.path}" if self.path.is_file() else str(self.path / name)


def data_root(root: str | None = None) -> Path:
    """The folder that named data sets lie in: the one given, else $LONGTAIL_DATA, else ~/.cache/longtail.

    Example:
        >>> data_root("photos").name
        'photos'
    """
    return Path(root or os.environ.get("LONGTAIL_DATA") or "~/.cache/longtail").expanduser()


def detect_cifar(path: Path) -> CifarFiles | None:
    """What CIFAR files a path holds, if any: a folder with the official files, or an archive of the official name.

    Example:
        >>> detect_cifar(Path("photos")) is None
        True
    """
    found = [
        CifarFiles(cifar, layout, path)
        for cifar in CIFARS.values()
        for layout in cifar.layouts
        if (path.is_file() and path.name == layout.archive)
        or (path.is_dir() and (path.name == layout.folder or CifarFiles(cifar, layout, path).complete))
    ]
    return found[0] if found else None


def find_cifar(name: str, root: str | None = None) -> CifarFiles:
    """Look for a data set in the folder for data.

    Args:
        name: "cifar10" or "cifar100".
        root: see `data_root`; the folder that holds the official folders or archives, or one of those folders itself.

    Raises:
        InputError: if it is not there, with what was looked for and how to get it.

    Example:
        >>> find_cifar("cifar100", "nowhere")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no CIFAR-100 in nowhere: looked for cifar-100-binary, cifar-100-binary.tar.gz, ...
    """
    if name not in CIFARS:
        raise unknown_name("CIFAR data set", name, CIFARS)
    cifar, base = CIFARS[name], data_root(root)
    entries = [entry for layout in cifar.layouts for entry in (layout.folder, layout.archive)]
    candidates = [detect_cifar(place) for place in (base, *(base / entry for entry in entries))]
    found = [files for files in candidates if files is not None and files.cifar is cifar]
    if not found:
        raise InputError(
            f"no {cifar.title} in {base}: looked for {', '.join(entries)}; get it with `longtail data get {name}`, or "
            "set LONGTAIL_DATA (or --root) to the folder that holds one of these"
        )
    # an interrupted unpacking must not hide a whole archive beside it
    return next((files for files in found if files.complete), found[0])
