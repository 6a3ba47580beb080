"""Run the command from a checkout: ``python3 bgrem.py -f image.fits``."""

from bgrem.cli.bgrem import main

if __name__ == "__main__":
    raise SystemExit(main())
