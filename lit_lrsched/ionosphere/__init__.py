"""The worked example: a small classifier of radar returns, on the data that comes with the package."""
