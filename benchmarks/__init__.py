"""Measurements: `suite.py` holds every case against its bar; the other scripts are studies behind design choices."""
