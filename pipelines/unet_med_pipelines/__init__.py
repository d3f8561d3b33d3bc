"""The work on many scans: command line, batch, training, evaluation. Knows no window."""
