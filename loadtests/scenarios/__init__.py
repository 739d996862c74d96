"""The shapes of load that a service must bear, each with what must hold under it."""
