"""What a run is: its configuration, read from TOML and checked once, and the presets."""
