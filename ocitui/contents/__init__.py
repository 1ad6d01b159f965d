"""What is inside packed files: their trees, read here or by the tools that make them."""
