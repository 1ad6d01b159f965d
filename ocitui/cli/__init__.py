"""The command line: it parses, calls the core, and prints. What `--help` needs (`main`, `options`, `output`) imports
click and nothing heavier; a command is imported when it runs, the screen when it opens."""
