"""The systems that are compared, one file a family."""
