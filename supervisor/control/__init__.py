"""Serves and calls the control API over a unix socket."""
