"""Arguments of `features`."""

from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from longtail.arguments.common import add_data_arguments, data_changes
from longtail.arguments.parser import Command, Parser


def _features_arguments(parser: Parser) -> None:
    parser.add_argument("target", help="a finished run's folder, or a backbone: resnet50, timm/NAME, ...")
    add_data_arguments(parser, "a run's own data, or else digits-lt")
    group = parser.add_argument_group("features")
    group.add_argument("--parts", type=str, nargs="+", help="of train, val and test; default: all that the data have")
    group.add_argument(
        "--augment",
        type=int,
        default=0,
        help="augmented views of each training image, beside the plain one; default: 0",
    )
    group.add_argument("--policy", type=str, help="of augmentation (longtail list augmentations); default: the run's")
    group.add_argument("--seed", type=int, default=0, help="of augmentation, and of an untrained backbone; default: 0")
    group.add_argument(
        "--pretrained", type=bool, help="of a backbone; true: ImageNet weights (default); false: untrained"
    )
    group.add_argument("--device", type=str, default="auto", help="cpu, cuda, ...; default: auto")
    group = parser.add_argument_group("file")
    group.add_argument("--output", type=Path, help="the file to write, over any other; default: features.npz")
    group.add_argument(
        "--format", type=Literal["npz", "parquet"], default="npz", help="npz (default) is mapped, not read; parquet"
    )
    group.add_argument("--dtype", type=Literal["float32", "float16"], default="float32", help="float16 halves the file")


def _features(given: Namespace, line: str) -> None:
    from longtail.commands.features import Wish, features

    wish = Wish(
        parts=None if given.parts is None else tuple(given.parts),
        augment=given.augment,
        policy=given.policy,
        seed=given.seed,
        output=given.output or Path(f"features.{given.format}"),
        kind=given.format,
        dtype=given.dtype,
    )
    source = {"data": given.data, "changes": data_changes(given), "pretrained": given.pretrained}
    features(target=given.target, **source, wish=wish, device=given.device, command=line)


FEATURES = Command(
    "features",
    "write what a run or a backbone makes of images, for other uses",
    "Write embeddings, logits and labels of a data set to a file, on which `longtail train` can train a head.",
    "features RUN_OR_BACKBONE [DATA] [options]",
    """\
  longtail features runs/first --output first.npz
  longtail train first.npz --method crt
  longtail features resnet50 photos/ --output photos.npz
  longtail features runs/first --augment 10 --format parquet""",
    _features_arguments,
    _features,
)
