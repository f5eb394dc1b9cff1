"""Read images of data sets and of users, in one range and one order."""
