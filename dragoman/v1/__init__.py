"""Generated stubs of dragoman.v1: `translation_pb2` and `translation_pb2_grpc`."""
