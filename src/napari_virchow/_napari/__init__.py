"""The only folder where napari, Qt and magicgui are imported."""
