"""Model definition, training, checkpoint import, tracing to ONNX and proof: everything that makes a bundle."""
