"""Where messages come from, behind one contract."""
