"""Read TOML files as recipes, strictly, with all errors reported at once and located."""
