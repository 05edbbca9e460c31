"""Models: one file per family, all published sizes in sizes.py, the names in registry.py."""

from mixer.models import sizes as sizes  # registers them
