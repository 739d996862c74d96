"""The life of the models that are served: found, loaded, tested, replaced, drained and freed."""
