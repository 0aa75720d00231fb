"""The network of Fig. 2, its losses, object poses from control points, and checkpoints."""
