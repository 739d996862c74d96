"""Load from outside: arrivals that do not wait for the server, and latencies that no stall can hide from."""
