"""python -m spikebridge."""

import sys

from spikebridge.cli import main

sys.exit(main())
