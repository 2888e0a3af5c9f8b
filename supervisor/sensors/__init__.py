"""What the machine says about itself: providers of readings, one file each."""
