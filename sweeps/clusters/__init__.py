"""Where trials run at once: this machine, or an existing Ray cluster."""
