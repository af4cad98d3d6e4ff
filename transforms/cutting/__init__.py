"""Rows of a window become batches; what is too little waits."""
