"""Pictures of what a trained model sees and where it errs: drawings of attention, and one page of a whole split."""
