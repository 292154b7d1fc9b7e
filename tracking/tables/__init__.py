"""The tables that commands print in the terminal."""
