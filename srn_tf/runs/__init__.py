"""What a run leaves behind: its folder, its weights, the states it continues from."""
