"""A data module for anybody's CSV."""
