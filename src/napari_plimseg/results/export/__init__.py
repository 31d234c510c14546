"""Every way out of the program: label TIFF, GeoJSON, CSV and overlay picture."""
