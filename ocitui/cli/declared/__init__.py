"""The commands as they are typed: options and help, no more; what they do is imported when they run."""
