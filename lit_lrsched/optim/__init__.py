"""The torch side: one scheduler that carries any schedule, and torch's own as schedules."""
