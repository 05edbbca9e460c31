"""The command `mixer` in a clone: python main.py --help says how to use it."""

import sys

from mixer.command import main

if __name__ == "__main__":
    sys.exit(main())
