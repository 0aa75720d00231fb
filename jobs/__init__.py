"""Entry points: each module with a main(argv) is one job; the others serve the pipeline and the report."""
