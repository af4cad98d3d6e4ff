"""Messages become rows, or dead letters with a reason. No Beam."""
