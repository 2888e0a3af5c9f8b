"""Implements the commands supervisord and supervisorctl."""
