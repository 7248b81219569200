"""The search for the peak learning rate, on the race's engines: many rates x seeds from one start, judged honestly."""
