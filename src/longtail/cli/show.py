"""`longtail show`: print the resolved configuration of a run."""

from dataclasses import replace
from pathlib import Path

from longtail._streams import stdout
from longtail.cli._options import RunOptions
from longtail.cli.train import resolve


def main(data: str | None = None, /, *, run: RunOptions = RunOptions()) -> None:
    """Print the resolved configuration of a run, as YAML.

    Args:
        data: Name of a data set (longtail list data), a path, or a run folder. Default: digits-lt.
        run: Options that define the configuration.

    Examples:
        longtail show cifar100-lt --method balanced-softmax > mine.yaml
        longtail train --config mine.yaml
        longtail show runs/first
    """
    name = run.data_set(data)
    if name is not None and (Path(name).expanduser() / "config.yaml").is_file():
        run, name = replace(run, config=(Path(name).expanduser() / "config.yaml", *run.config)), None
    from longtail.cli._output import console
    from longtail.config import recipes

    plan = resolve(run, name, fetch=False)
    for reason in plan.reasons:
        console.print(f"chosen: {reason}")
    stdout.write(recipes.to_yaml(plan.config))
