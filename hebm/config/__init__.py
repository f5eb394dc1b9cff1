"""TOML → recipes: strict, all errors at once, each with its place."""
