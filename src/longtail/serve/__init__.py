"""HTTP service for a trained model (the extra `serve`)."""

from longtail.serve.app import create_app
from longtail.serve.requests import Limits
from longtail.serve.server import serve

__all__ = ["Limits", "create_app", "serve"]
