"""The controller is a C program; this package holds what it needs from Python."""
