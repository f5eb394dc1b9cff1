"""Images in: one range, one order, one reader."""
