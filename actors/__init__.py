"""What runs on Ray: driver, search, scheduler, trainables, watchdog. Nobody imports this room; it is a command line."""
