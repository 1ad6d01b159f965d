"""Where images come from: layouts, archives, packed files, and how each is opened and chosen from."""
