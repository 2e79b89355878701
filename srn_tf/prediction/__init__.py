"""Prediction of many image files: a row an image, on one machine or on Apache Beam."""
