"""The race between schedules."""
