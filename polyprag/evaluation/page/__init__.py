"""Results as one self-contained page: report.html of an evaluation, comparison.html of several."""
