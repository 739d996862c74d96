"""Our engine beside transformers and CTranslate2 on one GPU, and beside what the card itself can do."""
