"""Load from outside: arrivals that do not wait for the server, and latencies that no stall can hide from."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC writes a line for every connection that a restarting server ends
