"""How the runs of a race are trained."""
