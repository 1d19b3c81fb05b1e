"""The parts of the demo world: words, wordings, facts and questions."""
