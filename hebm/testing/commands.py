"""What a component of this kind promises."""
