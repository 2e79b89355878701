"""Prediction of many image files: one row per image, on one machine or on Apache Beam."""
