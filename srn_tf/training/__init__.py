"""Staged training: steps, schedule, the loop over a stage table, checkpoints and the work folder."""
