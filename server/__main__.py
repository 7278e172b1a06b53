"""`python -m server …` is `manykeys …`."""

import sys

from server.cli import main

sys.exit(main())
