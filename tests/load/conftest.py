"""What the tests of the load tester share."""

from __future__ import annotations

import sys
from pathlib import Path

# The helpers beside this file are imported as `tests.load.…`, whatever pytest was started from.
if (root := str(Path(__file__).parents[2])) not in sys.path:
    sys.path.insert(0, root)
