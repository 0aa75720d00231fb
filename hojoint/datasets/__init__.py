"""Readers: each data set becomes a list of Sample records; every convention is converted on reading."""
