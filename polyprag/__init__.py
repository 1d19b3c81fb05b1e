"""Parametric retrieval-augmented generation with a shared pool of latent LoRA experts."""
