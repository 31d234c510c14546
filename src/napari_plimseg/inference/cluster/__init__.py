"""Many slides on many workers: processes of this computer, or of others."""
