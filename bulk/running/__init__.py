"""Which job goes to which server, and what happens to its outcome."""
