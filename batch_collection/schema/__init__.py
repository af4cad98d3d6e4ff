"""Types of columns: as the log, Arrow and users write them, and what values they hold."""
