"""Forecasts: what schedules that were never run would give, by laws fitted to logged runs. Needs numpy and scipy."""
