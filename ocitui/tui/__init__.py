"""The screen: it shows what the core says, and asks the core to act."""
