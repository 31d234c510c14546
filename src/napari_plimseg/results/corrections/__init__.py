"""What people correct: the journal on the disk and the mask that it makes."""
