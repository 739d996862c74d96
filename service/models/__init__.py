"""The life of the models that are served: loaded, warmed up, replaced, drained and freed."""
