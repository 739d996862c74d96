"""Other engines as the servers that people build around them, under the same load as ours."""
