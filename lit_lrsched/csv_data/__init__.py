"""A data module for any two-class CSV file."""
