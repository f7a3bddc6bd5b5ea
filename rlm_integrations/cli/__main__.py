"""``python -m rlm_integrations.cli``: the same as ``rlm``."""

import sys

from rlm_integrations.cli import main

if __name__ == "__main__":
    sys.exit(main())
