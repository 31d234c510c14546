"""Makes `python -m napari_plimseg.cli` the same as the command `plimseg`."""

import sys

from napari_plimseg.cli.program import main

sys.exit(main())
