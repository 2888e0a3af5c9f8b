"""Tells people away from the machine what happens: messages, a daily digest, a dead-man ping."""
