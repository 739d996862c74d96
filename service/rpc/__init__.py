"""The gRPC edge: converts, validates, maps errors to statuses, and hands everything else to the translator."""
