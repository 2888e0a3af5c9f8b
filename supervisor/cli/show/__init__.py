"""Shows what runs did and found: events, prints, trials, answers, exports, the home's history, a forecast."""
