"""Asking language models behind OpenAI-compatible servers: versioned prompts, patience, replies that are kept."""
