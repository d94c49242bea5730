"""`python -m garbi.iaas.cli`: the command line where no script is installed."""

import sys

from garbi.iaas.cli import main

sys.exit(main())
