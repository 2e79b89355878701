"""What the neurons of a trained regularizer respond to, in numbers (section 4.3 of the paper)."""
