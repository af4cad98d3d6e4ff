"""How rows are written into files and read from them, behind one contract."""
