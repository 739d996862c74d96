"""Translation libraries side by side: the same weights, token ids, cores and text in one run."""
