"""Read images: one range, one order, one reader."""
