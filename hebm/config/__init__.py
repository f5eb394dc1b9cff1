"""Read TOML files as recipes: strictly, reporting all errors at once, each with its place."""
