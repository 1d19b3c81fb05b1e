"""The cases of the suite: each module offers `CASES`, and imports what is heavy only inside what it measures."""
