"""Generated stubs of the served part of google.cloud.translation.v3, beside which Google's own package can be loaded."""
