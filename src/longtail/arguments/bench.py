"""Arguments of `bench`."""

from pathlib import Path

from jsonargparse import Namespace

from longtail.arguments.common import given_of, setting
from longtail.arguments.parser import Command, Parser


def _bench_arguments(parser: Parser) -> None:
    parser.add_argument(
        "plan", nargs="?", help="name of a plan, or a YAML file of your own; none given: list the plans"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench"), help="folder of all trainings and tables; default: %(default)s"
    )
    parser.add_argument("--jobs", type=int, help="trainings at once; default: one per core")
    parser.add_argument("--memory-gb", type=float, help="main memory of all of them; default: what is free")
    parser.add_argument("--only", type=str, nargs="+", default=[], help="only these methods of the plan")
    parser.add_argument("--seeds", type=int, help="so many seeds, from 0; default: the plan's")
    parser.add_argument(
        "--imbalance-factors", type=float, nargs="+", default=[], help="of all data sets; default: the plan's"
    )
    parser.add_argument("--table-only", action="store_true", help="write the tables of what is done; train nothing")
    parser.add_argument(
        "--keep-old", action="store_true", help="take results of an older version of the code, too, and mark them"
    )
    parser.add_argument(
        "--adopt",
        type=Path,
        nargs="+",
        default=[],
        help="finished runs of `longtail train`: those of the plan's settings count as results of older code",
    )
    parser.add_argument(
        "--format", type=str, nargs="+", default=["md", "tex", "csv", "html"], help="default: md tex csv html"
    )
    group = parser.add_argument_group("settings of all trainings")
    group.add_argument("--epochs", type=int, help="of the Train stages; the schedule keeps its shape")
    group.add_argument("--precision", type=str, help="of the forward pass: fp32, bf16 or fp16")
    group.add_argument("--device", type=str, help="cpu, cuda, cuda:1, ...; default: an accelerator where there is one")
    group.add_argument("--root", type=str, help="where the files of a named data set lie; default: $LONGTAIL_DATA")
    group.add_argument("--set", type=str, nargs="+", default=[], help="any setting: KEY=VALUE")


def _bench(given: Namespace, line: str) -> None:
    from longtail.commands.bench import bench

    training = given_of(given, "epochs", "precision")
    nested = {"training": training, "data": given_of(given, "root"), "set": [setting(text) for text in given.set]}
    changes = {**given_of(given, "device"), **{key: value for key, value in nested.items() if value}}
    bench(
        plan=given.plan,
        folder=given.out,
        jobs=given.jobs,
        memory_gb=given.memory_gb,
        only=given.only,
        seeds=given.seeds,
        factors=given.imbalance_factors,
        changes=changes,
        table_only=given.table_only,
        keep_old=given.keep_old or bool(given.adopt),
        adopted=given.adopt,
        formats=given.format,
        command=line,
    )


BENCH = Command(
    "bench",
    "many methods under one protocol, and a table that can be believed",
    "Train methods x data sets x seeds by a plan, each once, several at a time, and write the tables. Stopped or "
    "killed at any point, the same command goes on. Exit code 1 if a training failed; the rest go on.",
    "bench [PLAN] [options]",
    """\
  longtail bench
  longtail bench quick
  longtail bench quick --only ce balanced-softmax balms --seeds 5
  longtail bench cifar100-ldam --epochs 24 --precision bf16 --jobs 2 --out runs/short
  longtail bench mine.yaml --table-only --format md""",
    _bench_arguments,
    _bench,
)
