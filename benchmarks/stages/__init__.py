"""Stages of the benchmarks: daemons, drivers and requests that play a part in one."""
