"""Programs that show the product from outside, as a newcomer would use it."""
