"""YAML files: each a whole run, with the paper's section beside every number."""
