"""Runs side by side: rows, the paper's tables, differences with their intervals, charts and pages."""
