"""Statistics of step times: of one run, light enough for the timed process, and of several, with SciPy."""
