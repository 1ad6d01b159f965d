"""What can be had back of a broken index, joined with backups and files."""
