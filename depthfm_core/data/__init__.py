"""RGB-D data: one sample type, readers, and scenes drawn from nothing but a seed."""

from .sample import DepthSample

__all__ = ["DepthSample"]
