"""The page for people, beside /metrics: a sentence in, translation, alternatives, attention and the live batch out."""
