"""What there is to know: corpora, the demo world, prompts, and the training sequences made of them."""
