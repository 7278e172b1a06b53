"""`python -m server …` is `manykeys …`."""

import sys

from server.cli.main import main

sys.exit(main())
