"""Upload an exported folder to the Hugging Face hub, on request only."""

import re
from pathlib import Path

from longtail._imports import check_installed
from longtail.errors import InputError


def check_upload(name: str) -> None:
    """Check before the export that a folder can be uploaded.

    Args:
        name: Repository, as OWNER/MODEL.

    Raises:
        InputError: If the name has another form, or the package huggingface_hub is not installed.

    Example:
        >>> check_upload("my model")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: `push` must be a repository such as my-name/my-model, got 'my model'
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"`push` must be a repository such as my-name/my-model, got {name!r}")
    check_installed(
        "huggingface_hub", "uploading needs the package huggingface_hub; install it, or copy the folder yourself"
    )


def upload(folder: Path, name: str) -> str:
    """Upload a folder as a private repository, or into an existing one, and return its address.

    Args:
        folder: Folder that `export_run` wrote.
        name: Repository, as OWNER/MODEL.

    Raises:
        InputError: If the hub cannot be reached, or refuses.
    """
    import huggingface_hub

    try:
        huggingface_hub.create_repo(name, private=True, exist_ok=True)
        huggingface_hub.upload_folder(repo_id=name, folder_path=str(folder))
    except Exception as error:  # errors of the network, of HTTP and of the login are of many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot upload {folder} to {name}: {reason}; the folder is written, so upload it with `hf upload`"
        ) from error
    return f"https://huggingface.co/{name}"
