"""The verb `doctor`: looks for what is wrong with an installation and its home, and writes a bug report."""
