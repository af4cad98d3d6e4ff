"""What belongs to a process, and what is told in it of collecting; no Beam."""
