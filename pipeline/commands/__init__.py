"""The commands, one a file. Only cli.py imports them."""
