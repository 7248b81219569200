"""The Lightning side: what ``configure_optimizers`` returns, and the callbacks."""
