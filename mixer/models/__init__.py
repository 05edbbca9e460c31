"""Models: a file for each family, all their published sizes in sizes.py, names in registry.py."""

from mixer.models import sizes as sizes  # registers them
