"""Run the command from a checkout: ``python3 bgrem.py -f image.fits``."""

from bgrem.cli.bgrem import main

raise SystemExit(main())
