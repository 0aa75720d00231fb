"""Hands found in videos without boxes: detectors, tracks, sides. Knows no Ray."""
