"""``python3 -m bgrem`` is the command ``bgrem``."""

from bgrem.cli.bgrem import main

raise SystemExit(main())
