"""Speed, printed as ratios and bounds taken in one run; not part of the tests."""
