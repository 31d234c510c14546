"""What touches napari: layers, regions, camera, history."""
