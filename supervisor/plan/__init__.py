"""Turns a plan's file into resolved experiments."""
