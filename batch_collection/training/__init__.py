"""Batches of rows for training: Arrow, NumPy, PyTorch, TensorFlow."""
