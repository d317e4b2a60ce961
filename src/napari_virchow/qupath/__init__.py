"""The bridge to QuPath: its GeoJSON files, its frames, its projects and a live link."""
