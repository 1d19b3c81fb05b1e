"""From a question to an answer: retrieval and generation."""
