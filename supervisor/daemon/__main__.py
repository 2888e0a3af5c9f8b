"""Starts the daemon: `python -P -m supervisor.daemon`."""

import sys

from supervisor.daemon.daemon import main

if __name__ == "__main__":
    sys.exit(main())
