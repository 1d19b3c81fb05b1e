"""Document augmentation: rewrites and question-answer pairs that make a passage learnable."""
