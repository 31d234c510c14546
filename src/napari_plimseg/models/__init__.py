"""Models: loading, running, listing and downloading them."""
