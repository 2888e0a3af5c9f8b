"""Decides what a person may ask of single trials that have ended, and says what it means for them."""
