"""Draws people who do not exist, from MakeHuman's data (CC0) in .dev/heads: studio.py has the command."""
