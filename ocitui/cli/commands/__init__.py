"""One file a command: its options and its body. `ocitui.cli.main` loads the one that was asked for."""
