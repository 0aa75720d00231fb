"""Augmentation, batches, the schedule, and one process's training step (Sec. 5.2, 6.1)."""
