"""The papers' benchmarks: what their published files hold, brought into the form of our own question files."""
