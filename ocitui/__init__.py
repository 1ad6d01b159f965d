"""See, understand and change krata's image cache: a library, a screen and a command line."""

__version__ = "0.1.0"
