"""What is wrong with a cache: one examination, to the depth that is asked for."""
