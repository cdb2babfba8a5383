"""What is asked for: pure data, checked where it is wrong on any machine."""
