"""Callbacks for any ``Trainer``, one a file."""
