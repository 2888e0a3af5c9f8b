"""Does what the daemon needs beside the run: disk, logs, notices, crash loop, stalls."""
