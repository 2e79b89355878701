"""Baselines that are not networks: k nearest neighbours, on features of a trained main net or on given ones."""
