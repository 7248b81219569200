"""What a run will do: its plan, the audit, table and picture, without training."""
