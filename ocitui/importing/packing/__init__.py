"""Packing a flattened image: squashfs, erofs, tar, in a process of its own."""
