"""What `list` does, once its arguments are read."""

from collections.abc import Sequence
from typing import Any

from longtail import embedding, losses, models, posthoc, samplers, stages, transfer
from longtail.augment import mixing
from longtail.augment.policies import POLICIES
from longtail.commands.output import out
from longtail.config import recipes
from longtail.errors import unknown_name


def list_names(*, kind: str | None) -> None:
    """List what there is."""
    if kind is not None and kind not in LISTED:
        raise unknown_name("kind of thing to list", kind, LISTED)
    for title, names in _listing().items():
        if kind is None or title == kind:
            out.print(f"[bold]{title}[/bold]")
            for name, about in names.items():
                out.print(f"  {name:24} {about}".rstrip(), markup=False)


LISTED = (
    "methods",
    "recipes",
    "data",
    "losses",
    "samplers",
    "mixing",
    "transfer",
    "embedding",
    "stages",
    "backbones",
    "heads",
    "corrections",
    "augmentations",
)


def _listing() -> dict[str, dict[str, str]]:
    def described(package: Any, names: Sequence[str]) -> dict[str, str]:
        return {name: (getattr(package, name).__doc__ or "").splitlines()[0] for name in sorted(names)}

    own = {"PATH": "your own: a folder per class, a CSV or Parquet table, or `path label` lists"}
    return {
        "methods": {name: recipes.about("methods", name) for name in recipes.names("methods")},
        "recipes": {name: recipes.about("training", name) for name in recipes.names("training")},
        "data": {name: recipes.about("data", name) for name in recipes.names("data")} | own,
        "losses": described(losses, losses.__all__),
        "samplers": described(samplers, samplers.__all__),
        "mixing": described(mixing, mixing.__all__),
        "transfer": described(transfer, transfer.__all__),
        "embedding": described(embedding, embedding.__all__),
        "stages": described(stages, stages.__all__),
        "backbones": described(models, models.BACKBONES) | {"resnet50, ...": "every torchvision classification net"},
        "heads": described(models, models.HEADS),
        "corrections": described(posthoc, posthoc.CORRECTIONS),
        "augmentations": dict(POLICIES.items()),
    }
