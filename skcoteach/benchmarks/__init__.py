"""Reproducible experiments, run as ``python -m skcoteach.benchmarks``. Every figure of the README comes from here."""
