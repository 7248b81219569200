"""What may be concluded from the runs of a race: tuning, tests, intervals and a verdict in words."""
