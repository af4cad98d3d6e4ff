"""PTransforms, one a file, each a thin shell over a pure function."""
