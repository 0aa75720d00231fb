"""Training and retraining on Ray Train."""
