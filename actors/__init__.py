"""Runs experiments on Ray: driver, search, scheduler, trainables, watchdog. No other room imports it."""
