"""Evaluation: metrics in NumPy, what each dataset's table means, score files, pointing game, reports."""
