"""``python -m scanfold`` is the command ``scanfold``."""

import sys

from scanfold.cli import main

if __name__ == "__main__":
    sys.exit(main())
