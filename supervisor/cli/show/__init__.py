"""Shows what runs have found: trials, answers, exports, the home's history, two runs side by side, a forecast."""
