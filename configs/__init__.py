"""YAML files: each holds all settings of a run, with the paper's section beside every number."""
