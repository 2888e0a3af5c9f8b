"""The sweep supervisor: runs long searches unattended. Importing this loads the standard library only."""

__product__ = "sweep-supervisor"
__version__ = "0.1.0"
API_VERSION = 1
"""Version of the control protocol between supervisorctl and supervisord; they refuse each other when it differs."""
