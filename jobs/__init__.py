"""Entry points: each module is one job, read top to bottom, with main(argv)."""
