"""The commands of hebm, one file each."""
