"""The place upstream has publish_data in."""

from ..datapub import publish_data

__all__ = ["publish_data"]
