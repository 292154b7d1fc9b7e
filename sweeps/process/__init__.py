"""What any process of ours needs of the operating system: signals, temporary files, paths."""
