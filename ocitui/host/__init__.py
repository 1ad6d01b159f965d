"""What the host knows beside the cache: its daemon, its loop devices."""
