"""Photos and their faces."""
