"""The command line: it parses, calls the core, and prints. The screen is imported only when it opens. What
`--help` needs (`main`, `options`, `output`) imports click and nothing heavier; what a command does is a module of its
own, imported when it runs."""
