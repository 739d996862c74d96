"""The translation service: text pipeline, engine, ONNX Runtime runner, gRPC edge and metrics."""
