"""The words of a command line, as they were typed and as they are passed on."""
