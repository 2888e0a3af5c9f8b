"""Holds the words of the system as pure values: states, commands, messages, time accounting."""
