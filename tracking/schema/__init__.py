"""What records may hold, and how JSON is read into them."""
