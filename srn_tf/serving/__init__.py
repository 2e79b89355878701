"""Serving: writing a trained model as a SavedModel, and asking one for predictions."""
