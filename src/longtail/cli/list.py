"""`longtail list`: list methods, data sets and components."""

from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import Parameter

from longtail.errors import unknown_name

KINDS = (
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

OTHER_BACKBONES = {
    "resnet50, ...": "every torchvision classification net",
    "timm/NAME": "a timm network; also hf-hub:ORG/NAME and local-dir:FOLDER",
    "hf/ORG/NAME": "an image network of transformers: DINOv2, SigLIP2, CLIP, ViT, ...; also hf/FOLDER",
}


def main(kind: Annotated[str | None, Parameter(metavar="KIND")] = None, /) -> None:
    """List methods, data sets and components.

    Args:
        kind: List only one kind: methods, recipes, data, losses, samplers, mixing, transfer, embedding, stages,
            backbones, heads, corrections or augmentations.

    Examples:
        longtail list
        longtail list methods
    """
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    from longtail.cli._output import out

    for title, names in _names().items():
        if kind is None or title == kind:
            out.print(title, style="bold")
            for name, about in names.items():
                out.print(f"  {name:24} {about}".rstrip())


def _names() -> dict[str, dict[str, str]]:
    """Return the description of every name, by kind."""
    from longtail import augment, embedding, losses, models, posthoc, samplers, stages, transfer
    from longtail.config import recipes

    def described(package: Any, names: Iterable[str]) -> dict[str, str]:
        return {name: (getattr(package, name).__doc__ or "").splitlines()[0] for name in sorted(names)}

    own = {"PATH": "your own: a folder per class, a CSV or Parquet table, or `path label` lists"}
    return {
        "methods": {name: recipes.about("methods", name) for name in recipes.names("methods")},
        "recipes": {name: recipes.about("training", name) for name in recipes.names("training")},
        "data": {name: recipes.about("data", name) for name in recipes.names("data")} | own,
        "losses": described(losses, losses.__all__),
        "samplers": described(samplers, samplers.__all__),
        "mixing": described(augment, augment.MIXINGS),
        "transfer": described(transfer, transfer.__all__),
        "embedding": described(embedding, embedding.__all__),
        "stages": described(stages, stages.__all__),
        "backbones": described(models, models.BACKBONES) | OTHER_BACKBONES,
        "heads": described(models, models.HEADS),
        "corrections": described(posthoc, posthoc.CORRECTIONS),
        "augmentations": dict(augment.POLICIES),
    }
